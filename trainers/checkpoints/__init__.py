"""Checkpoints: reading ours and published ones, their layouts, and PromptKD's teachers."""
