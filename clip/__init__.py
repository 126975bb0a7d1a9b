"""CLIP behind OpenAI's interface: ``import clip`` or ``from clip import clip``."""

import lazy_loader

# Modules are imported at first use of a name in __init__.pyi, so that importing this is fast.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
