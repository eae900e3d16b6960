"""One file for each family of arms; a maker's SDK is imported by the file that needs it, or by a process of its own."""
