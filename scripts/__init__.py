"""Command-line programs; each file opens with its own command line."""
