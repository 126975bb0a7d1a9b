"""The dataset interface; the datasets themselves live in the top-level package ``datasets``."""

import lazy_loader

# The names are in __init__.pyi; each module is imported at first use, so that commands which
# only plan jobs or read results start without importing torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
