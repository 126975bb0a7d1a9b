"""Name the methods of tables as the demo and the ablation print them.

name = method_names(runs)
name(run)   # "CoOp + TextRefiner", "no cache", "zero-shot CLIP"; the trainer's name for others
"""

from collections.abc import Callable, Sequence
from typing import Any

from scripts.ablation.learners import PREFIX
from scripts.ablation.rows import ROWS, Variant
from scripts.tables.load import ADDED, REFINER, Run

ZERO_SHOT = {
    "ZeroshotCLIP": "zero-shot CLIP",
    "ZeroshotCLIP2": "zero-shot CLIP (prompt ensemble)",
}
# The full method's TRAINER.TEXTREFINER (trainers/settings.py, which imports torch).
FULL = {
    "CACHE_SIZE": 25,
    "MOMENTUM": 0.8,
    "ALPHA": 0.2,
    "TOPK": 5,
    "LOCAL_WEIGHT": 0.02,
    "REG_WEIGHT": 20.0,
    "CACHE": True,
    "LOCAL": True,
    "REG": True,
    **ADDED,
}


def method_names(runs: Sequence[Run]) -> Callable[[Run], str]:
    """Return a function from a run to the name of its method.

    A variant of the ablation is named by what it changes; if ``runs`` refine several learners, the
    learner precedes it: "CoOp + TextRefiner, no cache".
    """
    refined = {method_name(run.trainer) for run in runs if run.trainer.startswith(PREFIX)}

    def name(run: Run) -> str:
        method = method_name(run.trainer)
        variant = _variant(run) if method in refined else ""
        if not variant:
            return method
        return f"{method}, {variant}" if len(refined) > 1 else variant

    return name


def method_name(trainer: str) -> str:
    """Return "CoOp + TextRefiner" for TextRefinerCoOp, and likewise for the other trainers."""
    if trainer == PREFIX:  # the name that the authors' release gives to TextRefinerCoOp
        return f"CoOp + {PREFIX}"
    if trainer.startswith(PREFIX):
        return f"{trainer.removeprefix(PREFIX)} + {PREFIX}"
    return ZERO_SHOT.get(trainer, trainer)


def _variant(run: Run) -> str:
    """Return the label of the row of the ablation with these settings; "" for the full method."""
    own = {key: value for key, value in run.settings.items() if key.startswith(REFINER)}
    for variant in ROWS.values():
        if variant.model == "refined" and own == _settings(variant):
            return variant.label if variant.options(PREFIX.upper()) else ""
    return ""


def _settings(variant: Variant) -> dict[str, Any]:
    """Return TRAINER.TEXTREFINER of a variant by config keys, in the types of the defaults."""
    full = {REFINER + key: value for key, value in FULL.items()}
    return full | {
        key: _as(full[key], value) for key, value in variant.options(PREFIX.upper()).items()
    }


def _as(default: Any, value: str) -> Any:
    return value == "True" if isinstance(default, bool) else type(default)(value)
