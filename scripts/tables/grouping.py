"""Decide which runs share a table, a row and a cell."""

import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence

from scripts.tables.load import FEW_SHOT, Run

Key = Callable[[Run], Hashable]
# The settings that the exceptions of configs/protocols.yaml vary by dataset and shots.
VARIED = (
    "OPTIM.MAX_EPOCH",
    "TRAINER.ATPROMPT.ATTRIBUTES",
    "TRAINER.ATPROMPT.N_ATT",
    "TRAINER.ATPROMPT.N_CTX",
    "TRAINER.MMRL.REG_WEIGHT",
    "TRAINER.MMRL.REP_DIM",
    "TRAINER.PROMPTKD.KD_WEIGHT",
    "TRAINER.PROMPTKD.TEACHER_WEIGHTS",
    "TRAINER.PROMPTSRC.GPA_MEAN",
    "TRAINER.PROMPTSRC.GPA_STD",
    "TRAINER.TaskRes.RESIDUAL_SCALE",
)
# Those that they vary for some trainers only; two values of another trainer are two settings.
VARIED_FOR = {
    "MMRL": ("DATALOADER.TRAIN_X.BATCH_SIZE",),
    "TextRefinerMMRL": ("DATALOADER.TRAIN_X.BATCH_SIZE",),
    "TaskRes": ("OPTIM.LR",),
    "TextRefinerTaskRes": ("OPTIM.LR",),
}


def varied(trainer: str) -> tuple[str, ...]:
    """Return the settings that the protocols vary by dataset and shots for a trainer."""
    return (*VARIED, *VARIED_FOR.get(trainer, ()))


def setting(run: Run) -> Hashable:
    """Return what must agree for runs to be averaged over their seeds."""
    epoch = run.epoch if run.selection == "last_step" else None  # the best epoch varies by seed
    return (run.trainer, run.config, run.selection, epoch, json.dumps(run.settings, sort_keys=True))


def protocol_setting(run: Run) -> Hashable:
    """Return what must agree for runs on several datasets or numbers of shots to share a row.

    This is `setting` without the settings that the protocols vary (`varied`).
    """
    left_out = varied(run.trainer)
    settings = {key: value for key, value in run.settings.items() if key not in left_out}
    return (run.trainer, run.selection, json.dumps(settings, sort_keys=True))


def group_by(runs: Iterable[Run], key: Key) -> list[list[Run]]:
    """Return the runs in groups of equal keys, in the order of their first appearance."""
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return list(groups.values())


def by_dataset_and_averaged(runs: Sequence[Run], same: Key) -> list[tuple[list[Run], list[str]]]:
    """Return the runs and datasets of each table: one per dataset, then one per average.

    Averages are over the datasets of the trained runs.

    Args:
        same: what the trained runs of a table share besides dataset, backbone, split and images.
    """
    single = [(part, [part[0].dataset]) for part in _split(runs, lambda run: run.dataset, same)]
    joint = [(part, datasets_of(part)) for part in _split(runs, lambda run: None, same)]
    return [*single, *((part, names) for part, names in joint if len(names) > 1)]


def _split(runs: Sequence[Run], key: Key, same: Key) -> list[list[Run]]:
    """Return the runs of each table; zero-shot runs are in every table of their ``key``."""
    tables = []
    for members in group_by(runs, lambda run: (key(run), backbone_and_split(run))):
        references = [run for run in members if run.is_zero_shot]
        trained = by_images((run for run in members if not run.is_zero_shot), same)
        tables += [references + part for part in trained] or [references]
    return tables


def by_images(trained: Iterable[Run], key: Key) -> list[list[Run]]:
    """Return the runs that may share a table: those with equal ``key`` and training images.

    Runs distilled on the few-shot images share the table of runs with labels. Runs distilled on all
    images, and runs with different MODAL, are kept apart.
    """
    parts = group_by(trained, lambda run: (key(run), run.images))
    labeled = {key(part[0]): part for part in parts if not part[0].distill_on}
    joined = {key(part[0]) for part in parts if part[0].distill_on == FEW_SHOT}
    tables = []
    for part in parts:
        if part[0].distill_on == FEW_SHOT:
            tables.append([*labeled.get(key(part[0]), []), *part])
        elif part[0].distill_on or key(part[0]) not in joined:
            tables.append(part)
    return tables


def backbone_and_split(run: Run) -> tuple[str, str]:
    return (run.backbone, run.split)


def datasets_of(members: Sequence[Run]) -> list[str]:
    """Return the datasets of the trained runs, or of all runs if none is trained."""
    trained = [run for run in members if not run.is_zero_shot]
    return sorted({run.dataset for run in trained or members})
