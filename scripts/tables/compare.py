"""Compare two methods or settings pair by pair: the same dataset, classes and seed in both.

comparison = compare(Path("output/.../TextRefinerCoOp"), Path("output/.../CoOp"))
print(markdown(comparison))
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, harmonic_mean
from typing import Any, NamedTuple

from dassl.utils import UsageError
from scripts.tables.grouping import group_by, protocol_setting
from scripts.tables.identity import told_apart
from scripts.tables.load import Run, find
from scripts.tables.render import PAIRS_LEGEND, json_paired, markdown_table, paired_text
from scripts.tables.rows import short_commit
from scripts.tables.statistics import Paired, paired

BASE, NEW, H = "base", "new", "H"
FACTS = ("trainer", "config", "selection", "epoch", "shots")  # of a run, beside its settings


class Key(NamedTuple):
    """What both runs of a pair share."""

    dataset: str
    source: str | None
    split: str
    classes: str
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Two sides, each with its folder and a run for each key, and what differs beside results."""

    folders: tuple[Path, Path]
    runs: tuple[Mapping[Key, Run], Mapping[Key, Run]]
    config_differences: Sequence[str]
    notes: Sequence[str]

    @property
    def keys(self) -> list[Key]:
        """The keys of both sides, sorted."""
        shared = self.runs[0].keys() & self.runs[1].keys()
        return sorted(shared, key=lambda key: (*map(str, key[:-1]), key.seed))

    def accuracies(self, side: int) -> dict[str, dict[tuple[str, int], float]]:
        """Return column -> (dataset, seed) -> accuracy in percent; H is that of base and new."""
        columns: dict[str, dict[tuple[str, int], float]] = {}
        for key in self.keys:
            place = f"{key.dataset} from {key.source}" if key.source else key.dataset
            title = key.classes if key.split == "test" else f"{key.classes}, {key.split}"
            accuracy = self.runs[side][key].accuracy
            columns.setdefault(title, {})[place, key.seed] = accuracy
        if BASE in columns and NEW in columns:
            base, new = columns[BASE], columns[NEW]
            columns[H] = {
                pair: harmonic_mean([base[pair], new[pair]]) for pair in base if pair in new
            }
        return columns

    def pairs(self) -> dict[str, Paired]:
        """Return column -> the differences by (dataset, seed), the first side minus the second."""
        one, other = self.accuracies(0), self.accuracies(1)
        return {title: paired(values, other[title]) for title, values in one.items()}


def compare(first: Path, second: Path, seeds: Sequence[int] = ()) -> Comparison:
    """Return the paired runs below two folders, each of one method in one setting.

    Args:
        seeds: that are compared; empty: all.

    Raises:
        UsageError: a folder has no result, or several methods or settings; nothing can be paired;
            or a pair was tested on other data or with another CLIP.
    """
    sides = (_load(first, seeds), _load(second, seeds))
    comparison = Comparison((first, second), sides, (), ())
    if not comparison.keys:
        raise UsageError(
            f"{first} and {second} share no dataset, classes and seed: {_listed(sides[0])} in the "
            f"first, {_listed(sides[1])} in the second; give folders with common runs"
        )
    _check_identity(comparison)
    notes = [*_unpaired_notes(comparison), *_commit_notes(comparison)]
    return Comparison((first, second), sides, _config_differences(comparison), notes)


def _load(folder: Path, seeds: Sequence[int]) -> dict[Key, Run]:
    """Return the runs below ``folder`` by their keys."""
    runs = [run for run in find(folder).runs if not seeds or run.seed in seeds]
    if not runs:
        wanted = f" of seeds {', '.join(map(str, seeds))}" if seeds else ""
        raise UsageError(f"no result{wanted} below {folder}: no folder there has a result.json")
    groups = group_by(runs, protocol_setting)
    if len(groups) > 1:
        named = ", ".join(str(group[0].folder) for group in groups)
        raise UsageError(
            f"{folder} has runs of {len(groups)} methods or settings, such as in {named}: give the "
            "folder of one of them"
        )
    found: dict[Key, Run] = {}
    for run in runs:
        key = Key(run.dataset, run.source, run.split, run.classes, run.seed)
        if key in found:
            raise UsageError(
                f"{found[key].folder} and {run.folder} are both {_named(key)}: give a folder with "
                "one of them"
            )
        found[key] = run
    return found


def _check_identity(comparison: Comparison) -> None:
    """Raise UsageError if a pair has other data or another CLIP, as far as these were recorded."""
    pairs = [(comparison.runs[0][key], comparison.runs[1][key]) for key in comparison.keys]
    names = {run.folder: run for run in told_apart([run for pair in pairs for run in pair])}
    for a, b in pairs:
        one, other = names[a.folder], names[b.folder]
        if one.backbone != other.backbone:
            raise UsageError(
                f"{a.folder} has the CLIP {one.backbone}, {b.folder} {other.backbone}: compare "
                "runs with the same CLIP"
            )
        if one.dataset != other.dataset:
            raise UsageError(
                f"{a.folder} was tested on {one.dataset}, {b.folder} on {other.dataset}: compare "
                "runs on the same images"
            )
        if a.total != b.total:
            raise UsageError(
                f"{a.folder} was tested on {a.total:,} images, {b.folder} on {b.total:,}: compare "
                "runs on the same images"
            )


def _config_differences(comparison: Comparison) -> list[str]:
    """Return "KEY: A has X, B has Y" for each setting, with the datasets if it is not all of them.

    Settings that only one side has are listed by section.
    """
    places: dict[str, dict[str, None]] = {}
    datasets = dict.fromkeys(key.dataset for key in comparison.keys)
    for key in comparison.keys:
        one, other = (_settings(side[key]) for side in comparison.runs)
        lines = [
            f"{name}: A has {one[name]}, B has {other[name]}"
            for name in sorted(one.keys() & other.keys())
            if one[name] != other[name]
        ]
        for line in [*lines, *_only("A", one, other), *_only("B", other, one)]:
            places.setdefault(line, {})[key.dataset] = None
    return [
        line if len(where) == len(datasets) else f"{line} ({', '.join(where)})"
        for line, where in places.items()
    ]


def _only(side: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return "SECTION: only in A: KEY VALUE, ..." for settings that the other side lacks."""
    sections: dict[str, list[str]] = {}
    for name in sorted(own.keys() - other.keys()):
        section, _, leaf = name.rpartition(".")
        sections.setdefault(section, []).append(f"{leaf} {own[name]}")
    return [f"{name}: only in {side}: {', '.join(found)}" for name, found in sections.items()]


def _settings(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in FACTS} | dict(run.settings)


def _unpaired_notes(comparison: Comparison) -> list[str]:
    """Return a note for the runs of a side that have no partner."""
    notes = []
    for folder, own, other in zip(
        comparison.folders, comparison.runs, reversed(comparison.runs), strict=True
    ):
        alone = {key: run for key, run in own.items() if key not in other}
        if alone:
            notes.append(f"only in {folder}, not compared: {_listed(alone)}")
    return notes


def _commit_notes(comparison: Comparison) -> list[str]:
    """Return a note if the paired runs are of several commits, as far as these were recorded."""
    commits = [
        {run.commit for key in comparison.keys if (run := side[key]).commit}
        for side in comparison.runs
    ]
    if len(commits[0] | commits[1]) < 2:
        return []
    first, second = (", ".join(map(short_commit, sorted(found))) or "none" for found in commits)
    return [
        f"runs of several versions of the code: commit {first} in the first, {second} in the second"
    ]


def _listed(keys: Iterable[Key]) -> str:
    """Return "Critters base seed 1, 2, Critters new seed 1" for keys."""
    seeds: dict[str, list[int]] = {}
    for key in keys:
        seeds.setdefault(f"{key.dataset} {key.classes}", []).append(key.seed)
    return ", ".join(
        f"{name} seed {', '.join(map(str, sorted(found)))}" for name, found in seeds.items()
    )


def _named(key: Key) -> str:
    return f"{key.dataset}, {key.classes} classes, seed {key.seed}"


def over_datasets(pairs: Paired) -> Paired:
    """Return the mean differences of the datasets, whose seeds are not independent pairs."""
    by_dataset: dict[str, list[float]] = {}
    for (dataset, _), value in pairs.differences.items():
        by_dataset.setdefault(dataset, []).append(value)
    return Paired({dataset: fmean(values) for dataset, values in by_dataset.items()})


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown: summary, pairs, differences of the configs, notes."""
    first, second = comparison.folders
    some = [runs[comparison.keys[0]] for runs in comparison.runs]
    one, other, pairs = comparison.accuracies(0), comparison.accuracies(1), comparison.pairs()
    summary = [["Classes", "Pairs", "A", "B", "A - B (95 % interval; pairs, sign test)"]]
    by_pair = [["Dataset", "Seed", "Classes", "A", "B", "A - B"]]
    for title, found in pairs.items():
        a, b = ({key: side[title][key] for key in found.differences} for side in (one, other))
        means = [f"{fmean(side.values()):.2f}" for side in (a, b)] if a else ["n/a", "n/a"]
        count = str(len(found.differences))
        summary.append([title, count, *means, paired_text(found)])
        datasets = over_datasets(found)
        if len(datasets.differences) > 1:
            count = f"{len(datasets.differences)} datasets"
            summary.append([f"{title}, means of datasets", count, *means, paired_text(datasets)])
        for (dataset, seed), value in found.differences.items():
            words = [f"{side[dataset, seed]:.2f}" for side in (a, b)]
            by_pair.append([dataset, str(seed), title, *words, f"{value:+.2f}"])
    changed = [f"- {line}" for line in comparison.config_differences]
    parts = [
        f"### {some[0].trainer} minus {some[1].trainer} (backbone {some[0].backbone})",
        f"- A: {first}\n- B: {second}",
        markdown_table(summary),
        "By pair",
        markdown_table(by_pair),
        "Settings that differ:" if changed else "All recorded settings are equal.",
        "\n".join(changed),
        "\n".join(f"- **Note** {note}" for note in comparison.notes),
        PAIRS_LEGEND,
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def as_json(comparison: Comparison) -> str:
    """Return the comparison in full precision."""
    content = {
        "legend": PAIRS_LEGEND,
        "A": str(comparison.folders[0]),
        "B": str(comparison.folders[1]),
        "columns": {
            title: {
                **json_paired(_by_name(found)),
                "over_datasets": json_paired(over_datasets(found)),
            }
            for title, found in comparison.pairs().items()
        },
        "config_differences": list(comparison.config_differences),
        "notes": list(comparison.notes),
    }
    return json.dumps(content, indent=2) + "\n"


def _by_name(pairs: Paired) -> Paired:
    return Paired({f"{name} seed {seed}": d for (name, seed), d in pairs.differences.items()})


FORMATS: dict[str, Callable[[Comparison], str]] = {"markdown": markdown, "json": as_json}
