"""Models that are part of the repository."""
