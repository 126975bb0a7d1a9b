"""Stand-in for Dassl.pytorch."""
