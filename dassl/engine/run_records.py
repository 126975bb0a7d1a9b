"""The records in an output folder, and the lock that keeps a second run out of it.

run.json         one run of train.py: command, settings, versions, dates and status
checkpoint.json  what the checkpoints are: method, backbone, classes, epochs, tensors
result.json      the newest test: its accuracy and everything that decides a table row

Nothing here imports torch, so commands that only read records start at once.
"""

import argparse
import ctypes
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from yacs.config import CfgNode

from ..config.flat import decode, read_config
from ..utils.env import library_versions
from ..utils.errors import UsageError
from ..utils.tools import PathLike, read_json, write_json
from .selection import selection_rule

RUN, RECORD, RESULT = "run.json", "checkpoint.json", "result.json"
LOCK = "running.lock"
IN_USE = 75  # exit code of a run in a folder that is in use, sysexits' EX_TEMPFAIL
RUNNING, FINISHED, FAILED = "running", "finished", "failed"
RUNNER = "TEXTREFINER_RUNNER"  # process id of the runner, in the environment of its train.py
# Written by earlier versions in place of run.json.
OLD_RUNS = {"finished.json": FINISHED, "job.json": RUNNING}

# Settings of speed and output: a run may be resumed, and counts as finished, with other values.
HARMLESS_KEYS = (
    "DATALOADER.FEATURE_STORE",
    "DATALOADER.NUM_WORKERS",
    "DATALOADER.TEST.BATCH_SIZE",
    "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.PRINT_FREQ",
    "VERBOSE",
)
PATH_KEYS = ("DATASET.ROOT", "OUTPUT_DIR", "RESUME", "MODEL_DIR")
# What decides a training besides the trainer's own sections and OPTIM.
TRAINING_KEYS = (
    "SEED",
    "TRAINER.NAME",
    "MODEL.BACKBONE.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "DATASET.DISTILL_ON",
    "DATALOADER.VIEWS",
    "TRAINER.MODAL",
)


# The lock


class FolderInUseError(UsageError):
    """Another run is writing into the output folder."""


@contextmanager
def folder_lock(folder: PathLike) -> Iterator[None]:
    """Lock an output folder for the duration of the block.

    Raises:
        FolderInUseError: another process has locked the folder.
        UsageError: the folder cannot be written to.
    """
    lock = FileLock(Path(folder) / LOCK)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise FolderInUseError(
            f"another run is using {str(folder)!r}: wait until it ends, or choose another "
            "--output-dir"
        ) from None
    except OSError as error:
        raise UsageError(
            f"nothing can be written to {str(folder)!r} ({error.strerror}): set OUTPUT_DIR "
            "(--output-dir) to a folder that can be written to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def end_with_runner() -> None:
    """Have Linux end this process (SIGTERM) when the runner that started it ends, even by SIGKILL.

    Without this, a job that a scheduler starts again would wait for the lock of its first attempt.
    """
    runner = os.environ.pop(RUNNER, "")
    if runner == str(os.getppid()) and sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM))


# run.json


def run_settings(
    files: Sequence[PathLike], flags: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that decide a run's outcome as a flat table, without paths and speed.

    Args:
        files: config files; later ones win.
        flags: values of command-line flags by config key or, for "--seed", "--trainer",
            "--eval-only" and "--load-epoch", by their own names.
        options: the KEY VALUE pairs, which win over both.
    """
    flat: dict[str, Any] = {}
    for file in files:
        flat |= read_config(Path(file))
    flat |= {**flags, **{key: decode(value) for key, value in options.items()}}
    flat = {key: value for key, value in flat.items() if key not in HARMLESS_KEYS + PATH_KEYS}
    return json.loads(json.dumps(flat, default=str))  # as it will be read back from a file


@contextmanager
def recorded_run(
    folder: PathLike, settings: Mapping[str, Any], model_dir: PathLike = "", began: float = 0.0
) -> Iterator[Callable[[], None]]:
    """Write ``folder``/run.json at the start of the block, and its status at the end.

    Yields a function to call when the run has passed its checks. It removes the result of an
    earlier run. Before that a finished run's record and result are left alone, so that a refused
    command deletes nothing. A test in the folder of a training leaves the training's record alone.

    Args:
        settings: from `run_settings`.
        model_dir: the output folder of the tested model.
        began: value of ``time.monotonic()`` from which the run's seconds are counted.
    """
    earlier = read_run_record(folder)
    trained = earlier and not earlier.get("settings", {}).get("--eval-only")
    keeps_record = bool(settings["--eval-only"] and trained)
    checked = earlier.get("status") != FINISHED
    record: dict[str, Any] = {
        "status": RUNNING,
        "command": shlex.join(["python", *sys.argv]),
        "settings": dict(settings),
        "model": finish_date(model_dir) if model_dir else None,
        "versions": library_versions(),
        "commit": git_commit(),
        "started": now(),
    }

    def write() -> None:
        if checked and not keeps_record:
            write_json(record, Path(folder) / RUN)

    def checks_passed() -> None:
        nonlocal checked
        checked = True
        (Path(folder) / RESULT).unlink(missing_ok=True)
        write()

    write()
    status = FAILED
    try:
        yield checks_passed
        status = FINISHED
    finally:
        seconds = round(time.monotonic() - began, 1)
        record |= {"status": status, "finished": now(), "seconds": seconds}
        write()


def read_run_record(folder: PathLike) -> dict[str, Any]:
    """Return the content of ``folder``/run.json, or of an earlier version's records; else {}.

    ``status`` is "running" (or the run was killed), "finished" or "failed".
    """
    if (Path(folder) / RUN).is_file():
        return _read_table(Path(folder) / RUN)
    for name, status in OLD_RUNS.items():
        if (Path(folder) / name).is_file():
            return {**_read_table(Path(folder) / name), "status": status}
    return {}


def find_run_records(folder: PathLike) -> list[Path]:
    """Return the folders below ``folder`` that have a run record."""
    found = Path(folder).rglob("*.json")
    return sorted({path.parent for path in found if path.name in (RUN, *OLD_RUNS)})


def is_finished(folder: PathLike) -> bool:
    """Whether the newest run in the folder ended well."""
    return read_run_record(folder).get("status") == FINISHED


def finish_date(folder: PathLike) -> str | None:
    """Return when the run in the folder finished; None without a record of a finished run."""
    record = read_run_record(folder)
    return record.get("finished") if record.get("status") == FINISHED else None


def git_commit() -> str | None:
    """Return the commit of this repository, with "-dirty" if files were changed, or None."""
    root = Path(__file__).resolve().parents[2]
    describe = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(root), *describe]
    try:
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def now() -> str:
    """Return the local time as ISO 8601 text, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


# checkpoint.json


def write_record(
    trainer: Any, directory: PathLike, files: Mapping[str, int], val_result: float | None
) -> None:
    """Write OUTPUT_DIR/checkpoint.json after the checkpoints ``files`` (name -> finished epochs).

    Entries of earlier checkpoints are kept while all models still have the files.
    """
    cfg, folder = trainer.cfg, Path(directory)
    names = trainer.get_model_names()
    earlier = read_record(folder).get("checkpoints", {})
    checkpoints = {
        file: entry
        for file, entry in earlier.items()
        if all((folder / name / file).is_file() for name in names)
    }
    entry = {"val_result": val_result, "saved": now()}
    checkpoints |= {file: {"epoch": epoch, **entry} for file, epoch in files.items()}
    classes = trainer.lab2cname
    content = {
        "method": cfg.TRAINER.NAME,
        "backbone": cfg.MODEL.BACKBONE.NAME,
        **trainer.describe(),
        "classes": [classes[label] for label in sorted(classes)],
        "selection": selection_rule(trainer),
        "checkpoints": checkpoints,
        "tensors": {name: _shapes(trainer._models[name]) for name in names},
        "settings": training_settings(trainer, cfg),
        "versions": library_versions(),
    }
    write_json(content, folder / RECORD)


def read_record(folder: PathLike) -> dict[str, Any]:
    """Return the content of ``folder``/checkpoint.json; {} if there is none."""
    path = Path(folder) / RECORD
    return _read_table(path) if path.is_file() else {}


def training_settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Return flat KEY -> value of what decides a training: data, backbone, method, optimization."""
    values = {key: value for key in TRAINING_KEYS if (value := _get(cfg, key)) is not None}
    for section, tree in {**_trainer_sections(trainer, cfg), "OPTIM": cfg.OPTIM}.items():
        values |= {f"{section}.{key}": value for key, value in tree.items()}
    # As they will be read back from the file.
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _trainer_sections(trainer: Any, cfg: CfgNode) -> dict[str, CfgNode]:
    """Return the sections of cfg.TRAINER that this trainer reads, by their keys."""
    nodes = getattr(trainer, "config_nodes", (cfg.TRAINER.NAME.upper(),))
    return {f"TRAINER.{name}": cfg.TRAINER[name] for name in nodes if name in cfg.TRAINER}


def _shapes(module: Any) -> dict[str, str]:
    """Return {"ctx": "4 x 512"} for every tensor of a module's state_dict."""
    tensors = module.state_dict().items()
    return {key: " x ".join(map(str, value.shape)) or "number" for key, value in tensors}


def _get(cfg: CfgNode, key: str) -> Any:
    section, _, leaf = key.rpartition(".")
    return (_get(cfg, section) if section else cfg).get(leaf)


def _read_table(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} contains {content!r:.40}: was it written by this train.py?")
    return content


# result.json


def write_result(trainer: Any, cfg: CfgNode, args: argparse.Namespace) -> None:
    """Write OUTPUT_DIR/result.json: the newest test of ``trainer`` and the settings behind it.

    Args:
        args: flags of train.py: eval_only, model_dir, load_epoch, config_file.
    """
    tested = trainer.last_test
    model = read_record(args.model_dir) if args.eval_only and args.model_dir else {}
    selection, epoch = _selection(trainer, cfg, args, model)
    loader = trainer.val_loader if tested["split"] == "val" else trainer.test_loader
    group = getattr(trainer.dm.dataset, "class_groups", {}).get(tested["split"])
    trained_on = model.get("settings", {}).get("DATASET.NAME")
    write_json(
        {
            "trainer": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.NAME,
            "config": Path(args.config_file).stem,
            "seed": cfg.SEED,
            "shots": cfg.DATASET.NUM_SHOTS,
            "classes": group.name if group else cfg.DATASET.SUBSAMPLE_CLASSES,
            "source": trained_on if args.eval_only else cfg.DATASET.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "selection": selection,
            "epoch": epoch,
            # Classes that are tested in groups are all tested on images of the test split.
            "split": "test" if group else tested["split"],
            "accuracy": tested["accuracy"],
            "error": tested["error_rate"],
            "macro_f1": tested["macro_f1"],
            "total": trainer.evaluator.total,
            "correct": trainer.evaluator.correct,
            "settings": _result_settings(trainer, cfg),
            "features": "stored" if getattr(loader, "used", False) else "computed",
            "versions": library_versions(),
            "device": str(trainer.device),
            "resources": _peak_memory(),
            # The one used: PREC fp16 runs in fp32 on a CPU. None: the trainer does not report it.
            "precision": getattr(trainer, "precision", None),
            "command": shlex.join(["python", *sys.argv]),
        },
        Path(cfg.OUTPUT_DIR) / RESULT,
    )


def read_result(folder: PathLike) -> dict[str, Any]:
    """Return the content of ``folder``/result.json; {} if there is none."""
    path = Path(folder) / RESULT
    return _read_table(path) if path.is_file() else {}


def _peak_memory() -> dict[str, int | None]:
    """Return the peak memory of this process in bytes, on the host and on the GPU (None: CPU)."""
    import torch  # slow to import, and readers of records do not need it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    on_gpu = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "host_bytes": peak if sys.platform == "darwin" else peak * 1024,  # Linux counts in KiB
        "cuda_bytes": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def _selection(
    trainer: Any, cfg: CfgNode, args: argparse.Namespace, model: dict[str, Any]
) -> tuple[str, int | None]:
    """Return the rule that chose the tested checkpoint, and its epoch.

    For a loaded model the rule is in the checkpoint.json of its training. A best model without
    this record is "best": the original selects on test images where a dataset has no others.
    """
    if not trainer.get_model_names():
        return "zero-shot", None
    if not args.eval_only:
        rule = selection_rule(trainer)
        return rule, trainer.max_epoch if rule == "last_step" else trainer.best_epoch
    if not args.model_dir:
        return "untrained", None
    rule = str(model.get("selection"))
    best = model.get("checkpoints", {}).get("model-best.pth.tar", {}).get("epoch")
    epoch = args.load_epoch
    if epoch is None:
        return rule if rule.startswith("best_") else "best", best
    if rule.startswith("best_") and epoch == best:
        return rule, epoch
    last = model.get("settings", {}).get("OPTIM.MAX_EPOCH", cfg.OPTIM.MAX_EPOCH)
    return "last_step" if epoch == last else f"epoch {epoch}", epoch


def _result_settings(trainer: Any, cfg: CfgNode) -> dict[str, Any]:
    """Return the sections of the config that decide a result."""
    sections = _trainer_sections(trainer, cfg)
    sections |= {name: cfg[name] for name in ("OPTIM", "INPUT")}
    if cfg.DATASET.get("DISTILL_ON"):
        sections["DATASET"] = {"DISTILL_ON": cfg.DATASET.DISTILL_ON}
        sections["TRAINER"] = {"MODAL": cfg.TRAINER.MODAL}
    sections["DATALOADER.TRAIN_X"] = cfg.DATALOADER.TRAIN_X
    if cfg.DATALOADER.VIEWS:
        sections["DATALOADER"] = {"VIEWS": cfg.DATALOADER.VIEWS}
    return sections
