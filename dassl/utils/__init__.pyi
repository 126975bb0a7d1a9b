from .checkpoint import load_checkpoint, resume_from_checkpoint, save_checkpoint
from .env import collect_env_info
from .errors import NonFiniteLossError, UsageError, nearest
from .images import read_image
from .logger import Logger, setup_logger
from .meters import AverageMeter, MetricMeter
from .random_state import (
    get_random_state,
    preserved_random_state,
    set_random_seed,
    set_random_state,
)
from .registry import Registry
from .tools import (
    atomic_path,
    check_availability,
    check_isfile,
    download_url,
    get_most_similar_str_to_a_from_b,
    listdir_nohidden,
    mkdir_if_missing,
    read_json,
    tolist_if_not,
    write_json,
)
from .torchtools import (
    count_num_param,
    init_network_weights,
    load_pretrained_weights,
    open_all_layers,
    open_specified_layers,
)

__all__ = [
    "AverageMeter",
    "Logger",
    "MetricMeter",
    "NonFiniteLossError",
    "Registry",
    "UsageError",
    "atomic_path",
    "check_availability",
    "check_isfile",
    "collect_env_info",
    "count_num_param",
    "download_url",
    "get_most_similar_str_to_a_from_b",
    "get_random_state",
    "init_network_weights",
    "listdir_nohidden",
    "load_checkpoint",
    "load_pretrained_weights",
    "mkdir_if_missing",
    "nearest",
    "open_all_layers",
    "open_specified_layers",
    "preserved_random_state",
    "read_image",
    "read_json",
    "resume_from_checkpoint",
    "save_checkpoint",
    "set_random_seed",
    "set_random_state",
    "setup_logger",
    "tolist_if_not",
    "write_json",
]
