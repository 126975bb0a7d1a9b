"""Check the files of datasets: one table of what is there, missing or broken, and what to do."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dassl.utils import UsageError, read_image

from .download.catalog import Entry, table
from .download.inventory import Inventory, take_inventory

SHOWN = 5  # broken or missing files that are named, per dataset


@dataclass
class Report:
    """What is known of one dataset after its check."""

    entry: Entry
    inventory: Inventory
    broken: list[str] = field(default_factory=list)  # messages about images that cannot be decoded

    @property
    def drawn_later(self) -> bool:
        """Whether the images are not drawn yet, which the first use does."""
        return self.entry.drawn and self.inventory.split == "not there"

    @property
    def good(self) -> bool:
        """Whether the dataset can be used."""
        return self.drawn_later or (self.inventory.complete and not self.broken)

    @property
    def next_command(self) -> str:
        """The command that mends what is wrong; empty if nothing is."""
        if self.good:
            return ""
        if self.entry.drawn:
            return f"rm -r the folder {self.entry.cls.dataset_dir}; it is drawn again"
        if self.broken and self.inventory.complete:
            return f"delete the broken images; python -m datasets fetch {self.entry.name} --yes"
        return f"python -m datasets fetch {self.entry.name}"


def check_datasets(entries: Sequence[Entry], root: Path, images: bool) -> list[Report]:
    """Check files, and decode every image if ``images``; print each report's details."""
    reports = []
    for entry in entries:
        report = Report(entry, take_inventory(entry, root))
        if images and report.inventory.images:
            folder = entry.folder(root)
            paths = [folder / image for image in report.inventory.images]
            report.broken = list(broken_images(paths, entry.name))
        reports.append(report)
    return reports


def broken_images(paths: Sequence[Path], name: str) -> Iterator[str]:
    """Decode images in parallel; yield one message for each that cannot be decoded."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(_decode, paths)
        for problem in tqdm(results, total=len(paths), unit="image", desc=name, disable=None):
            if problem:
                yield problem


def _decode(path: Path) -> str:
    """Return what is wrong with an image; empty if it can be decoded."""
    try:
        read_image(path)
    except UsageError as error:
        return str(error)
    return ""


def render(reports: Sequence[Report], images: bool) -> str:
    """Return the table of all reports, and below it what is missing, other or broken."""
    header = ("dataset", "found", "missing", "broken", "split", "next command")
    rows = [header, *(_row(report, images) for report in reports)]
    details = [line for report in reports for line in _details(report)]
    return "\n".join([table(rows), *details])


def _row(report: Report, images: bool) -> tuple[str, ...]:
    inventory = report.inventory
    missing = len(inventory.missing) + inventory.too_few
    if report.drawn_later:
        shown = "drawn at first use"
    elif missing:
        shown = f"{missing:,}"
    else:
        shown = "files" if inventory.absent else "0"
    broken = f"{len(report.broken):,}" if images else "-"
    return (
        report.entry.name,
        f"{len(inventory.images):,}",
        shown,
        broken,
        inventory.split,
        report.next_command,
    )


def _details(report: Report) -> Iterator[str]:
    name, inventory = report.entry.name, report.inventory
    if report.drawn_later:
        return
    if inventory.note:
        yield f"{name}: {inventory.note}"
    if inventory.absent:
        yield f"{name}: not in {report.entry.cls.dataset_dir}: {_some(inventory.absent)}"
    elif inventory.missing:
        yield f"{name}: missing images: {_some(inventory.missing)}"
    if inventory.split == "another":
        yield (
            f"{name}: {report.entry.cls.split_file} is not CoOp's: results are not comparable "
            "with published ones"
        )
    for difference in inventory.counts:
        yield f"{name}: {difference}"
    for problem in report.broken[:SHOWN]:
        yield f"{name}: {problem}"
    if len(report.broken) > SHOWN:
        yield f"{name}: {len(report.broken) - SHOWN:,} more images cannot be decoded"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
