"""The config tree, and merging of files and command lines into it."""

from .complete import complete
from .defaults import get_cfg_default
from .merge import clean_cfg, merge_file, merge_opts, with_bases

__all__ = ["clean_cfg", "complete", "get_cfg_default", "merge_file", "merge_opts", "with_bases"]
