"""Prompts: how they are packed into rows, learned contexts, deep prompts."""
