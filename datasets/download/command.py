"""The command `python -m datasets fetch`: several datasets, one after the other."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from dassl.utils import UsageError
from dassl.utils.failures import describe_failure

from .catalog import Entry, catalog, data_root, select, table
from .errors import FetchError
from .fetch import CLASSNAMES, WORK, Options, fetch, locked, missing_parts
from .imagenet import instructions, prepare_imagenet
from .inventory import take_inventory
from .models import CLIP, TEACHERS, TEACHERS_TEXT, clip_path, clip_source, fetch_clip
from .plan import require_consent, show_licenses, show_plan

IMAGENET = "imagenet"


def run_fetch(
    names: Sequence[str],
    root: str | None,
    mirror: str | None,
    dry_run: bool,
    yes: bool,
    keep: bool,
) -> int:
    """Fetch datasets and CLIP weights; return 1 if one of them could not be fetched.

    Raises:
        UsageError: a name is unknown, the mirror is no address, or the licenses are not accepted.
    """
    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror is {mirror!r}: it must start with http:// or https://")
    models = [name.removeprefix(CLIP) for name in names if name.startswith(CLIP)]
    for model in models:
        clip_source(model)  # raises for unknown names before anything is downloaded
    entries = catalog()
    known = [name for name, entry in entries.items() if entry.origin is not None]
    wanted = [name for name in names if not name.startswith(CLIP) and name != TEACHERS]
    for name in wanted:
        if name in entries and entries[name].drawn:
            raise UsageError(f"{name} is drawn at its first use: it needs no download")
    selected = [entries[name] for name in select(wanted, known)]
    options = Options(data_root(root), mirror, keep)
    if TEACHERS in names:
        print(TEACHERS_TEXT)
    if dry_run:
        _show_dry_run(selected, models, options)
        return 0
    if IMAGENET not in wanted and any(entry.name == IMAGENET for entry in selected):
        print("imagenet needs a login: python -m datasets fetch imagenet says what to put where")
        selected = [entry for entry in selected if entry.name != IMAGENET]
    incomplete = [entry for entry in selected if _incomplete(entry, options.root)]
    for entry in selected:
        if entry not in incomplete:
            print(f"{entry.name} is complete")
    if incomplete:
        print(show_licenses(incomplete))
    if any(not clip_path(model).exists() for model in models):
        print("clip: MIT (OpenAI's code and weights; see the model card for their intended use)")
    elif not incomplete:
        return 0
    require_consent(yes)
    return _fetch_all(incomplete, models, options)


def _show_dry_run(selected: Sequence[Entry], models: Sequence[str], options: Options) -> None:
    if selected:
        print(show_plan(selected, options.root, options.mirror))
    for model in models:
        path = clip_path(model)
        print(f"{CLIP}{model}: {'is there' if path.exists() else clip_source(model).url}: {path}")
    if any(entry.name == IMAGENET for entry in selected):
        print(instructions(_imagenet_folder(options.root)))


def _fetch_all(entries: Sequence[Entry], models: Sequence[str], options: Options) -> int:
    failed: list[tuple[str, str]] = []
    jobs: list[tuple[str, Callable[[], object]]] = [
        *((entry.name, partial(_fetch_one, entry, options)) for entry in entries),
        *((f"{CLIP}{model}", partial(fetch_clip, model, options.mirror)) for model in models),
    ]
    for name, job in jobs:
        try:
            job()
        except Exception as error:
            failure = describe_failure(error)
            if failure is None:
                raise
            print(f"{name} failed: {failure[0]}", file=sys.stderr)
            failed.append((name, failure[0]))
            continue
        print(f"{name} is complete")
    if failed:
        print(table([("failed", "why"), *failed]))
    return 1 if failed else 0


def _fetch_one(entry: Entry, options: Options) -> None:
    if entry.name == IMAGENET:
        _prepare_imagenet(entry, options)
    fetch(entry, options)
    inventory = take_inventory(entry, options.root)
    if not inventory.complete:
        some = [*inventory.absent, *inventory.counts, *inventory.missing][:3] or [inventory.note]
        raise FetchError(f"files are still missing: {', '.join(some)}")


def _prepare_imagenet(entry: Entry, options: Options) -> None:
    """Unpack and sort what the user has downloaded, and say what else is needed."""
    folder = entry.folder(options.root)
    with locked(options.root / WORK / IMAGENET):
        for line in prepare_imagenet(folder):
            print(line)
    inventory = take_inventory(entry, options.root)
    if inventory.too_few or set(inventory.absent) - {CLASSNAMES}:
        print(instructions(folder))


def _incomplete(entry: Entry, root: Path) -> bool:
    return bool(missing_parts(entry, root)) or not take_inventory(entry, root).complete


def _imagenet_folder(root: Path) -> Path:
    return root / "imagenet"
