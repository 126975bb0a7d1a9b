"""The rows of the ablation, its learners, and its tables."""
