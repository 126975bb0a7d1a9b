"""The tables of a probe in Markdown: a row for each run, and the mean of runs that are alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Generic, TypeVar

from scripts.tables.render import ABSENT, markdown_table

from .records import EntryUse, Half, Probe, Probes, Replacement

__all__ = ["Column", "alike", "render", "rows"]

Item = TypeVar("Item")
# Columns of the replacements, in the order of scripts.probing.reads.VERSIONS.
SHORT = {
    "plain": "T",
    "renormalized": "T' normalized",
    "mean": "R = class mean",
    "zero": "R = 0",
    "cache_mean": "R = mean of A",
    "random": "random A",
}
CLASSES = {"all": "all classes", "base": "base classes", "new": "new classes"}
LEGEND = """\
Weights are softmax(s T A^T), M entries; 1 is a uniform read. "Depends on class" is
||X - mean X|| / ||X|| with the mean over the classes; the rest changes no prediction. The columns
behind "T' as trained" are what classifies instead, at test and without training: the change of the
accuracy in points, and in parentheses the number of predictions that change. The rows of "random A"
are drawn with seed {seed}. "Kept" is the mean cosine of an entry with itself at the checkpoint
before. \N{PLUS-MINUS SIGN} is the sample standard deviation (n - 1)."""


@dataclass(frozen=True)
class Column(Generic[Item]):
    """A column: its heading, a pattern with a {} for each value, their formats, and the values."""

    heading: str
    pattern: str
    formats: tuple[str, ...]
    values: Callable[[Item], tuple[float | None, ...]]

    def cell(self, items: Sequence[Item]) -> str:
        """Return the values of an item, or mean ± std of several ones; n/a if one has none."""
        words = []
        for numbers, how in zip(
            zip(*(self.values(item) for item in items), strict=True), self.formats, strict=True
        ):
            known = [number for number in numbers if number is not None]
            if len(known) < len(items):
                return ABSENT
            word = format(fmean(known), how)
            if len(known) > 1:
                word += f" ± {format(stdev(known), how.removeprefix('+'))}"
            words.append(word)
        return self.pattern.format(*words)


def alike(probes: Sequence[Probe]) -> list[list[int]]:
    """Return the positions of the probes, in groups that differ in seed and folders only."""
    groups: dict[str, list[int]] = {}
    for i, probe in enumerate(probes):
        key = (probe.method, probe.dataset, probe.shots, probe.backbone, probe.settings)
        groups.setdefault(repr(key), []).append(i)
    return list(groups.values())


def rows(
    probes: Sequence[Probe],
    items: Sequence[Item | None],
    columns: Sequence[Column[Item]],
    groups: Sequence[Sequence[int]],
) -> list[list[str]]:
    """Return a line for each probe that has an item, and below those of a group their mean."""
    lines = []
    for group in groups:
        numbers = [i for i in group if items[i] is not None]
        sets = [[i] for i in numbers]
        if len(numbers) > 1:
            sets.append(numbers)
        for chosen in sets:
            first = probes[chosen[0]]
            label = f"{chosen[0] + 1}: {first.method}, seed {first.seed}"
            if len(chosen) > 1:
                label = f"{', '.join(str(i + 1) for i in chosen)}: mean ± std"
            found = [item for i in chosen if (item := items[i]) is not None]
            lines.append([label, *(column.cell(found) for column in columns)])
    return lines


def render(probes: Probes) -> str:
    """Return all tables of the runs."""
    runs = probes.runs
    names = [
        f"{i}: {run.method}, seed {run.seed}, {run.dataset}, {run.backbone}, {run.checkpoint}, "
        f"{run.cache_size} entries, {run.folder}"
        for i, run in enumerate(runs, start=1)
    ]
    parts = ["\n".join(names)]
    kinds: dict[tuple[Any, ...], None] = {}
    for run in runs:
        for half in run.halves:
            kinds[run.dataset, half.classes, half.split, half.images, half.of_images] = None
    for dataset, classes, split, images, of_images in kinds:
        cut = "" if images == of_images else f" of {of_images:,}"
        halves = [_half(run, dataset, (classes, split, images, of_images)) for run in runs]
        title = f"{dataset}, {CLASSES[classes]}: {images:,}{cut} images of the {split} split"
        parts += [f"### {title}"]
        for columns in (READ, _replaced()):
            head = ["Run", *(column.heading for column in columns)]
            parts.append(markdown_table([head, *rows(runs, halves, columns, alike(runs))]))
    parts += ["### Use of the entries by the training images", _uses(runs)]
    parts.append(LEGEND.format(seed=probes.random_seed))
    return "\n\n".join(parts) + "\n"


def _half(run: Probe, dataset: str, kind: tuple[Any, ...]) -> Half | None:
    """Return the half of a run that has these classes and images."""
    if run.dataset != dataset:
        return None
    for half in run.halves:
        if (half.classes, half.split, half.images, half.of_images) == kind:
            return half
    return None


READ: list[Column[Half]] = [
    Column(
        "weight x M",
        "{} to {}",
        (".2f", ".2f"),
        lambda half: (half.reading.weight_min, half.reading.weight_max),
    ),
    Column("entropy / log M", "{}", (".4f",), lambda half: (half.reading.relative_entropy,)),
    Column("min cos(R_i, R_j)", "{}", (".4f",), lambda half: (half.reading.cosine_min,)),
    Column("R depends on class", "{}", (".2%",), lambda half: (half.reading.share,)),
    Column("alpha W2 R depends on class", "{}", (".2%",), lambda half: (half.reading.added_share,)),
]


def _replaced() -> list[Column[Half]]:
    """Return the accuracy as trained, and a column for each replacement."""

    def change(version: str) -> Callable[[Half], tuple[float, float]]:
        def values(half: Half) -> tuple[float, float]:
            rows = _by_version(half)
            return rows[version].accuracy - rows["model"].accuracy, rows[version].changed

        return values

    trained: Column[Half] = Column(
        "T' as trained", "{}", (".2f",), lambda half: (_by_version(half)["model"].accuracy,)
    )
    return [
        trained,
        *(Column(title, "{} ({})", ("+.2f", ".3g"), change(name)) for name, title in SHORT.items()),
    ]


def _by_version(half: Half) -> dict[str, Replacement]:
    return {row.version: row for row in half.replacements}


USE: list[Column[EntryUse]] = [
    Column("entries used", "{}", (".3g",), lambda use: (sum(n > 0 for n in use.tokens),)),
    Column("largest share", "{}", (".1%",), lambda use: (max(use.tokens) / sum(use.tokens),)),
    Column(
        "cosine of two entries",
        "{} ({} to {})",
        (".3f", ".3f", ".3f"),
        lambda use: (use.cosine_mean, use.cosine_min, use.cosine_max),
    ),
    Column("kept", "{}", (".4f",), lambda use: (use.kept,)),
]


def _uses(runs: Sequence[Probe]) -> str:
    """Return the table of the entries by epoch, with a sentence on epochs without checkpoints."""
    lines = []
    for group in alike(runs):
        epochs = {use.epoch for i in group for use in runs[i].epochs}
        for epoch in sorted(epochs, key=lambda e: (e is None, e or 0)):
            items = [next((u for u in run.epochs if u.epoch == epoch), None) for run in runs]
            name = "best" if epoch is None else str(epoch)
            lines += [[line[0], name, *line[1:]] for line in rows(runs, items, USE, [group])]
    table = markdown_table([["Run", "epoch", *(column.heading for column in USE)], *lines])
    single = [str(i) for i, run in enumerate(runs, start=1) if len(run.epochs) < 2]
    if not single:
        return table
    return (
        f"{table}\n\nRun {', '.join(single)}: a single checkpoint, so there is no development over "
        "epochs (TRAIN.CHECKPOINT_FREQ N in training saves one every N epochs)."
    )
