"""What was run: the facts of each run, and the settings that differ."""

from collections.abc import Sequence
from typing import Any

from dassl.config.flat import flatten
from scripts.probing.run import Run
from scripts.probing.settings import changed_settings, plain

__all__ = ["comparison", "duration", "facts"]

# Facts that differ between any two runs, so that marking them would say nothing.
OWN = ("Started", "Duration", "Command", "Folder", "Model from")


def facts(run: Run) -> dict[str, str]:
    """Return what was run, as name -> text."""
    record, result, training = (run.records[key] for key in ("run", "result", "checkpoint"))
    shots = run.cfg.DATASET.NUM_SHOTS
    trained = training.get("trained_parameters")
    compared = {"all": "all", "base": "the base", "new": "the new"}.get(run.class_group, "all")
    rows = {
        "Method": run.classifier.method,
        "Dataset": run.dataset,
        "Classes": f"{len(run.classes):,} ({compared} classes)",
        "Shots": "all images" if shots < 1 else f"{shots} per class",
        "Seed": "none" if run.cfg.SEED < 0 else str(run.cfg.SEED),
        "Backbone": run.classifier.backbone,
        "Precision": f"{run.classifier.precision} on {run.classifier.device}",
        "Checkpoint": run.classifier.checkpoint or "none: the method is not trained",
        "Trained parameters": f"{trained:,}" if trained else "0",
        "Status": record.get("status", "not recorded"),
        "Started": record.get("started", "not recorded"),
        "Duration": duration(record.get("seconds")),
        "Commit": record.get("commit") or result.get("commit") or "not recorded",
        "Versions": ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())
        or "not recorded",
        "Command": record.get("command", "not recorded"),
        "Folder": str(run.folder),
    }
    if warnings := result.get("warnings"):
        rows["Warnings"] = "; ".join(warnings)
    if run.model_folder != run.folder:
        rows["Model from"] = str(run.model_folder)
    return rows


def duration(seconds: float | None) -> str:
    """Return seconds in words."""
    if seconds is None:
        return "not recorded"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """Return headings, a table of facts and one of settings with a column for each run.

    A setting is listed if it differs from the default in any run. ``differs`` marks rows in which
    the runs differ.
    """
    tables = [facts(run) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    flat = [dict(flatten(run.cfg)) for run in runs]
    changed = sorted({key for run in runs for key in changed_settings(run.cfg)})
    return {
        "labels": labels(runs),
        "facts": [_row(name, [table.get(name, "") for table in tables]) for name in names],
        "settings": [
            _row(key, [_text(table.get(key, "not set")) for table in flat]) for key in changed
        ],
    }


def labels(runs: Sequence[Run]) -> list[str]:
    """Return a different heading for each run: its name, with a number if others have the same."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} (run {i})"
        for i, name in enumerate(names, start=1)
    ]


def _row(name: str, values: Sequence[str]) -> dict[str, Any]:
    return {
        "name": name,
        "values": list(values),
        "differs": name not in OWN and len(set(values)) > 1,
    }


def _text(value: Any) -> str:
    return repr(value) if value == "" else str(plain(value))
