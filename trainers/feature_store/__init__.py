"""Cache the features of frozen image encoders on disk (DATALOADER.FEATURE_STORE)."""
