"""Learned contexts, deep prompts, and the packing of prompts into rows."""
