"""What the cache of trained runs does: measures for scripts/probe.py and the report."""
