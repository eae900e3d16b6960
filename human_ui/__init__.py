"""The preference-query GUI: what people are shown, and what they say about it."""
