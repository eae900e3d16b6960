"""`rapport compare`: methods, seeds and budgets side by side, and the table that a researcher publishes."""
