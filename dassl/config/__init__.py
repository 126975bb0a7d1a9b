"""The config tree, and merging of files and command lines into it."""

from .defaults import get_cfg_default
from .merge import clean_cfg, merge_file, merge_opts, with_bases

__all__ = ["clean_cfg", "get_cfg_default", "merge_file", "merge_opts", "with_bases"]
