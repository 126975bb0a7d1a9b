"""Train or evaluate any registered trainer: flags -> config -> trainer -> train or test.

As CoOp's train.py::

    python train.py --root DATA --seed 1 --trainer TextRefinerCoOp \\
        --dataset-config-file configs/datasets/dtd.yaml \\
        --config-file configs/trainers/TextRefinerCoOp/vit_b16_ep10_ctxv1.yaml \\
        --output-dir output/dtd DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base

CPU-sized, on the embedded dataset and model::

    python train.py --root data --seed 1 --trainer TextRefinerCoOp \\
        --dataset-config-file configs/datasets/critters.yaml \\
        --config-file configs/trainers/TextRefinerCoOp/critters.yaml \\
        --output-dir output/critters DATASET.NUM_SHOTS 16 DATASET.SUBSAMPLE_CLASSES base
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from yacs.config import CfgNode

import datasets
import trainers
from clip.weights import WeightsError
from dassl.config import get_cfg_default, merge_file, merge_opts
from dassl.engine import build_trainer
from dassl.utils import (
    UsageError,
    collect_env_info,
    distributed,
    set_random_seed,
    setup_logger,
)
from scripts.runner.check_resume import check_continuation, warn_of_differences
from scripts.runner.orphan import end_with_runner
from scripts.runner.result import RESULT, write_result
from trainers.settings import SettingsError, map_release_keys

__all__ = ["extend_cfg", "main", "setup_cfg"]

_REGISTERED = (datasets, trainers)  # imported for their registrations

# flag -> config key; a flag that is not given leaves the config alone
FLAG_KEYS = {
    "root": "DATASET.ROOT",
    "output_dir": "OUTPUT_DIR",
    "resume": "RESUME",
    "model_dir": "MODEL_DIR",
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
    add("--root", default="", help="folder of the datasets")
    add("--output-dir", default="", help="folder for log, checkpoints and results")
    add("--resume", default="", help="folder of checkpoints to go on from")
    add("--seed", type=int, default=None, help="negative: not seeded")
    add("--source-domains", nargs="+", help="source domains")
    add("--target-domains", nargs="+", help="target domains")
    add("--transforms", nargs="+", help="training transforms by name")
    add("--config-file", default="", help="YAML of the trainer")
    add("--dataset-config-file", default="", help="YAML of the dataset")
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

    Later sources win: dataset file, trainer file, flags, KEY VALUE pairs.
    """
    cfg = get_cfg_default()
    extend_cfg(cfg)
    adopted = []
    for path in (args.dataset_config_file, args.config_file):
        if path:
            merge_file(cfg, path)
    given = [(key, getattr(args, flag)) for flag, key in FLAG_KEYS.items()]
    for key, value in given:
        if value not in (None, ""):
            # A text stays a text: a folder may be called 2024.
            merge_opts(cfg, [key, repr(value) if isinstance(value, str) else value])
    adopted += map_release_keys(cfg)
    merge_opts(cfg, args.opts)
    adopted += map_release_keys(cfg)
    cfg.freeze()
    return cfg, [value.line(cfg) for value in adopted]


def check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError where a flag would be ignored, or has swallowed KEY VALUE pairs."""
    if args.model_dir and not args.eval_only:
        raise UsageError(
            f"--model-dir {args.model_dir} is read with --eval-only; to go on from a training "
            "give its folder as --resume"
        )
    if args.load_epoch is not None and not args.model_dir:
        raise UsageError(f"--load-epoch {args.load_epoch} needs the folder to load as --model-dir")
    for flag in ("source_domains", "target_domains", "transforms"):
        swallowed = [word for word in getattr(args, flag) or [] if "." in word and word.isupper()]
        if swallowed:
            raise UsageError(
                f"--{flag.replace('_', '-')} has taken {swallowed[0]} as its value: put another "
                "flag between it and the KEY VALUE pairs"
            )


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
    check_flags(args)
    cfg, notes = setup_cfg(args)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)
    elif distributed.is_active():  # not seeded, and yet the same in every process
        set_random_seed(distributed.broadcast_from_main(lambda: torch.seed() % 2**32))
    setup_logger(cfg.OUTPUT_DIR)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    print_settings(args, cfg)
    print(f"Seed: {cfg.SEED if cfg.SEED >= 0 else 'none, every run differs'}")
    for line in notes:
        print(line)
    trainer = build_trainer(cfg)
    if notes and "TEXTREFINER" not in getattr(trainer, "config_nodes", ()):
        print(f"warning: {cfg.TRAINER.NAME} has no refiner and reads none of these settings")
    if cfg.DATALOADER.FEATURE_STORE and not getattr(trainer, "can_store", False):
        print(f"warning: {cfg.TRAINER.NAME} does not use DATALOADER.FEATURE_STORE")
    main = distributed.is_main()
    if main:
        (Path(cfg.OUTPUT_DIR) / RESULT).unlink(missing_ok=True)  # of an earlier run in this folder
    if args.eval_only:
        if args.model_dir:
            warn_of_differences(trainer, cfg, args.model_dir)
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
        trainer.test()
    elif not args.no_train:
        if main:
            check_continuation(trainer, cfg)
        trainer.train()
    if main and trainer.last_test:
        write_result(trainer, cfg, args)


def sentence(error: Exception) -> str:
    """The error's one sentence; a data loader's worker wraps it into its traceback."""
    text = str(error)
    if "DataLoader worker process" not in text:
        return text
    return text.strip().splitlines()[-1].split("Error: ", 1)[-1]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, 2 for a usage or config error (one sentence, no traceback), 130 for Ctrl-C."""
    end_with_runner()
    try:
        args = build_parser().parse_args(argv)
        with distributed.process_group():
            run(args)
    except (UsageError, SettingsError, WeightsError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command resumes from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
