"""The report of trained runs as an HTML page: one file for each section, one for each step."""
