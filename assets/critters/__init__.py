"""The embedded CLIP models and the code that made them."""
