"""Load our and published checkpoints, convert their layouts, and load PromptKD's teachers."""
