"""Features of frozen image encoders, cached on disk (DATALOADER.FEATURE_STORE)."""
