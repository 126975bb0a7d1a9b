"""The config tree, and how files and command lines change it."""

from .defaults import get_cfg_default
from .merge import clean_cfg, merge_file, merge_opts, with_bases

__all__ = ["clean_cfg", "get_cfg_default", "merge_file", "merge_opts", "with_bases"]
