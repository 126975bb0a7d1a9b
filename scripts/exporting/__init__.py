"""Exports of trained models: one file per format, the model card and the output folder."""
