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

The same command resumes an interrupted training. Exit codes: 0 done, 2 wrong usage, settings or
files, 74 the machine failed (disk, permissions, memory), 75 another run is using the output folder,
130 interrupted with Ctrl-C. After 2, 74 and 75 one sentence says what is wrong and what to do.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.config import get_cfg_default, merge_file, merge_opts
from dassl.config.table import ROWS, expand_paths
from dassl.engine import run_records
from dassl.utils import UsageError
from dassl.utils.arguments import Parser
from dassl.utils.failures import run_program

# torch and all that imports it is imported where it is used, so that --help answers at once.

__all__ = ["extend_cfg", "main", "setup_cfg"]

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


def build_parser() -> Parser:
    """Return a parser of CoOp's flags, the TextRefiner release's four, and KEY VALUE pairs."""
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--root", default="", help="folder of the datasets")
    add("--output-dir", default="", help="folder for log, checkpoints and results")
    add("--resume", default="", help="folder of checkpoints to resume from")
    add("--seed", type=int, default=None, help="negative: not seeded")
    add("--source-domains", nargs="+", help="source domains")
    add("--target-domains", nargs="+", help="target domains")
    add("--transforms", nargs="+", help="training transforms by name")
    add("--config-file", default="", help="YAML of the trainer")
    add("--dataset-config-file", default="", help="YAML of the dataset")
    add("--trainer", default="", help="name of the trainer")
    add("--backbone", default="", help="CLIP by name or path")
    add("--head", default="", help="as in Dassl; not used by the trainers here")
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
    """Add the config nodes of the trainers; add those of your own trainer here, as in CoOp."""
    import trainers

    trainers.extend_cfg(cfg)


def default_cfg() -> CfgNode:
    """Return the config without any file, flag or KEY VALUE pair."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    return cfg


def setup_cfg(args: argparse.Namespace) -> tuple[CfgNode, list[str]]:
    """Return the frozen config, and a line for each key mapped from the release's names.

    Later sources win: dataset file, trainer file, flags, KEY VALUE pairs.
    """
    from trainers.settings import ROWS as TRAINER_ROWS
    from trainers.settings import map_release_keys

    cfg = default_cfg()
    for path in _config_files(args):
        merge_file(cfg, path)
    for key, value in _given_flags(args).items():
        # Text remains text: a folder may be called 2024.
        merge_opts(cfg, [key, repr(value) if isinstance(value, str) else value])
    mapped = map_release_keys(cfg)
    merge_opts(cfg, args.opts)
    mapped += map_release_keys(cfg)
    expand_paths(cfg, dict[str, Any](ROWS) | TRAINER_ROWS)
    cfg.freeze()
    return cfg, [value.line(cfg) for value in mapped]


def _config_files(args: argparse.Namespace) -> list[str]:
    return [path for path in (args.dataset_config_file, args.config_file) if path]


def _given_flags(args: argparse.Namespace) -> dict[str, Any]:
    flags = {key: getattr(args, flag) for flag, key in FLAG_KEYS.items()}
    return {key: value for key, value in flags.items() if value not in (None, "")}


def record_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that run.json records: those of files, flags and KEY VALUE pairs."""
    flags = _given_flags(args)
    own = {"--trainer": flags.pop("TRAINER.NAME", ""), "--seed": flags.pop("SEED", None)}
    own |= {"--eval-only": args.eval_only, "--load-epoch": args.load_epoch}
    options = dict(zip(args.opts[::2], args.opts[1::2], strict=True))
    return run_records.run_settings(_config_files(args), {**flags, **own}, options)


def check_flags(args: argparse.Namespace) -> None:
    """Raise UsageError if a flag would be ignored, or if it has swallowed KEY VALUE pairs."""
    if args.model_dir and not args.eval_only:
        raise UsageError(
            f"--model-dir {args.model_dir} is read with --eval-only only; to resume a training, "
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


def run(args: argparse.Namespace, began: float) -> None:
    """Train or test as the flags say.

    Args:
        began: when the process began, by ``time.monotonic()``.
    """
    import torch

    import datasets  # noqa: F401  # imported for its registrations
    from dassl.utils import distributed, set_random_seed
    from dassl.utils.logger import end_log

    check_flags(args)
    args.model_dir = os.path.expanduser(args.model_dir)
    with distributed.process_group():
        cfg, notes = setup_cfg(args)
        main = distributed.is_main()
        with run_records.folder_lock(cfg.OUTPUT_DIR) if main else nullcontext():
            if cfg.SEED >= 0:
                set_random_seed(cfg.SEED)
            elif distributed.is_active():  # not seeded, and yet the same in every process
                set_random_seed(distributed.broadcast_from_main(lambda: torch.seed() % 2**32))
            try:
                if main and (args.eval_only or not args.no_train):
                    recorded(args, cfg, notes, began)
                else:
                    train_or_test(prepare(args, cfg, notes), args)
            finally:
                end_log()


def recorded(args: argparse.Namespace, cfg: CfgNode, notes: Sequence[str], began: float) -> None:
    """Train or test, and write run.json, config.yaml and result.json.

    The records and the log of an earlier run in the folder are replaced when this one has passed
    its checks.
    """
    from dassl.engine.run_summary import tail
    from dassl.utils.logger import keep_log
    from dassl.utils.tools import write_text

    folder, settings = Path(cfg.OUTPUT_DIR), record_settings(args)
    with run_records.recorded_run(folder, settings, args.model_dir, began) as checks_passed:
        trainer = prepare(args, cfg, notes)

        def on_start() -> None:
            checks_passed(run_records.facts_of(trainer))
            keep_log()
            write_text(cfg.dump(), folder / "config.yaml")
            trainer.on_start = lambda: None

        trainer.on_start = on_start
        train_or_test(trainer, args)
        if trainer.last_test:
            run_records.write_result(trainer, cfg, args)
            print(tail(trainer.last_test, trainer.evaluator.total, cfg.OUTPUT_DIR))


def prepare(args: argparse.Namespace, cfg: CfgNode, notes: Sequence[str]) -> Any:
    """Log the settings, build the trainer and check that it suits the folders; return it."""
    import torch

    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY, build_trainer
    from dassl.engine.check_resume import (
        check_continuation,
        check_places,
        selected_epoch,
        warn_of_differences,
    )
    from dassl.engine.run_summary import run_head, settings_head
    from dassl.utils import collect_env_info, distributed
    from dassl.utils.logger import begin_log

    begin_log(cfg.OUTPUT_DIR)
    if torch.cuda.is_available() and cfg.USE_CUDA:
        torch.backends.cudnn.benchmark = True
    print(settings_head(args, cfg, default_cfg()))
    print(f"** Environment **\n{collect_env_info()}")
    print(f"Seed: {cfg.SEED if cfg.SEED >= 0 else 'none, every run differs'}")
    for line in notes:
        print(line)
    for left in (*TRAINER_REGISTRY.left_out, *DATASET_REGISTRY.left_out):
        print(f"warning: {left}")
    trainer = build_trainer(cfg)
    print(run_head(trainer))
    if notes and "TEXTREFINER" not in getattr(trainer, "config_nodes", ()):
        print(f"warning: {cfg.TRAINER.NAME} has no refiner and reads none of these settings")
    if cfg.DATALOADER.FEATURE_STORE and not getattr(trainer, "can_store", False):
        print(f"warning: {cfg.TRAINER.NAME} does not use DATALOADER.FEATURE_STORE")
    if args.eval_only:
        if args.model_dir:
            args.load_epoch = selected_epoch(args.model_dir, args.load_epoch)
            warn_of_differences(trainer, cfg, args.model_dir)
        trainer.load_model(args.model_dir, epoch=args.load_epoch)
    elif not args.no_train and distributed.is_main():
        check_places(Path(cfg.OUTPUT_DIR), trainer.get_model_names())
        check_continuation(trainer, cfg)
    return trainer


def train_or_test(trainer: Any, args: argparse.Namespace) -> None:
    """Test the loaded model with --eval-only, else train, which ends with a test."""
    if args.eval_only:
        trainer.on_start()
        trainer.test()
    elif not args.no_train:
        trainer.train()
        trainer.on_start()  # not called by a trainer with a train method that replaces ours


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    began = time.monotonic()
    run_records.end_with_runner()

    def command() -> int:
        args = build_parser().parse_args(argv)
        from trainers.settings import SettingsError

        try:
            run(args, began)
        except run_records.FolderInUseError as error:
            print(f"error: {error}", file=sys.stderr)
            return run_records.IN_USE
        except SettingsError as error:  # not a UsageError, which the original Dassl does not have
            raise UsageError(str(error)) from error
        return 0

    return run_program(command, "the same command resumes from the last checkpoint")


if __name__ == "__main__":
    sys.exit(main())
