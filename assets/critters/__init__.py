"""The bundled CLIP models and the code that trains them."""
