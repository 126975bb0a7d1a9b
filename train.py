"""Train or evaluate any registered trainer: flags -> config -> trainer -> train or test.

As CoOp's train.py::

    python train.py --root DATA --seed 1 --trainer TextRefinerCoOp \\
        --dataset-config-file configs/datasets/dtd.yaml \\
        --config-file configs/trainers/TextRefinerCoOp/vit_b16_ep10_ctxv1.yaml \\
        --output-dir output/dtd DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

CPU-sized, on the embedded data set and model::

    python train.py --root data --seed 1 --trainer TextRefinerCoOp \\
        --dataset-config-file configs/datasets/critters.yaml \\
        --config-file configs/trainers/TextRefinerCoOp/critters.yaml \\
        --output-dir output/critters DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from yacs.config import CfgNode

import datasets
import trainers
from clip.weights import WeightsError
from dassl.config import get_cfg_default, merge_file, merge_opts
from dassl.engine import build_trainer
from dassl.utils import UsageError, collect_env_info, set_random_seed, setup_logger
from scripts.lib.result import write_result
from trainers.settings import SettingsError, adopt_release_names

__all__ = ["extend_cfg", "main", "setup_cfg"]

_REGISTERED = (datasets, trainers)  # imported for their registrations

# flag -> config key; a flag that is not given leaves the config alone
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "seed": "SEED",
    "source_domains": "DATASET.SOURCE_DOMAINS",
    "target_domains": "DATASET.TARGET_DOMAINS",
    "transforms": "INPUT.TRANSFORMS",
    "trainer": "TRAINER.NAME",
    "backbone": "MODEL.BACKBONE.NAME",
    "head": "MODEL.HEAD.NAME",
    "loss_factor": "TRAINER.TF.BALANCE",
    "distill_factor": "TRAINER.TF.DISTILL",
    "memory_size": "TRAINER.TF.MEMORY_SIZE",
    "alpha": "TRAINER.TF.ALPHA",
}


def build_parser() -> argparse.ArgumentParser:
    """CoOp's flags, the TextRefiner release's four, and KEY VALUE pairs at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", default="", help="folder of the data sets")
    add("--output-dir", default="", help="folder for log, checkpoints and results")
    add("--resume", default="", help="folder of checkpoints to go on from")
    add("--seed", type=int, default=None, help="negative: not seeded")
    add("--source-domains", nargs="+", help="source domains")
    add("--target-domains", nargs="+", help="target domains")
    add("--transforms", nargs="+", help="training transforms by name")
    add("--config-file", default="", help="YAML of the trainer")
    add("--dataset-config-file", default="", help="YAML of the data set")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="CLIP by name or path")
    add("--head", default="", help="as in Dassl; no trainer here reads it")
    add("--eval-only", action="store_true", help="evaluate, do not train")
    add("--model-dir", default="", help="output folder to load with --eval-only")
    add("--load-epoch", type=int, default=None, help="epoch to load; default: best validation")
    add("--no-train", action="store_true", help="build everything, do not train")
    release = parser.add_argument_group("the TextRefiner release's flags")
    release.add_argument("--loss-factor", type=float, help="LOCAL_WEIGHT is its inverse")
    release.add_argument("--distill-factor", type=float, help="REG_WEIGHT")
    release.add_argument("--memory-size", type=int, help="CACHE_SIZE")
    release.add_argument("--alpha", type=float, help="ALPHA")
    add("opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="config overrides")
    return parser


def extend_cfg(cfg: CfgNode) -> None:
    """Add the config nodes of the trainers; put those of your own trainer here, as in CoOp."""
    trainers.extend_cfg(cfg)


def setup_cfg(args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """The frozen config, and what was mapped from the release's names.

    Later sources win: data set file, trainer file, flags, KEY VALUE pairs.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    notes = []
    for path in (args.dataset_config_file, args.config_file):
        if path:
            merge_file(cfg, path)
    given = [(key, getattr(args, flag)) for flag, key in FLAG_KEYS.items()]
    merge_opts(cfg, [part for pair in given if pair[1] not in (None, "") for part in pair])
    notes += adopt_release_names(cfg)
    merge_opts(cfg, args.opts)
    notes += adopt_release_names(cfg)
    cfg.freeze()
    return cfg, notes


def print_settings(args: argparse.Namespace, cfg: CfgNode) -> None:
    """What this run was asked for, for the log."""
    print("** Arguments **")
    for name, value in sorted(vars(args).items()):
        print(f"{name}: {value}")
    print("** Config **")
    print(cfg)
    print("** Environment **")
    print(collect_env_info())


def run(args: argparse.Namespace) -> None:
    """Everything after the command line."""
    cfg, notes = setup_cfg(args)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    setup_logger(cfg.OUTPUT_DIR)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    print_settings(args, cfg)
    print(f"Seed: {cfg.SEED if cfg.SEED >= 0 else 'none, every run differs'}")
    for line in notes:
        print(line)
    trainer = build_trainer(cfg)
    if args.eval_only:
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    elif not args.no_train:
        trainer.train()
    if trainer.last_test:
        write_result(trainer, cfg, args)


def sentence(error: Exception) -> str:
    """The error's one sentence; a data loader's worker wraps it into its traceback."""
    text = str(error)
    if "DataLoader worker process" not in text:
        return text
    return text.strip().splitlines()[-1].split("Error: ", 1)[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for a usage or config error (one sentence, no traceback), 130 for Ctrl-C."""
    try:
        run(build_parser().parse_args(argv))
    except (UsageError, SettingsError, WeightsError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
