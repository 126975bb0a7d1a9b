"""Print docs/settings.md: every setting with its default, allowed values and meaning.

    python scripts/list_settings.py > docs/settings.md      # make settings

The rows are those of dassl/config/table.py and trainers/rows.py, which are also what train.py
checks; the defaults are those of dassl/config/defaults.py and trainers/settings.py.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.config import get_cfg_default
from dassl.config.table import ROWS, leaves
from dassl.utils.arguments import Parser
from dassl.utils.failures import run_program

HEAD = """\
# Settings

Every key of the config, printed by `make settings` from the tables that train.py checks before it
loads anything. A value outside its range ends train.py with one sentence and exit code 2. Set keys
in YAML files or as KEY VALUE pairs at the end of a command; `scripts/run.py` and the other scripts
check their pairs before they start a job.
"""
TAIL = """\
## Settings of Dassl's other trainers

These keys exist so that YAML files written for Dassl can be merged. Their trainers are not part of
this project, and nothing reads the values.
"""


def document(cfg: Mapping[str, Any], rows: Mapping[str, Any]) -> str:
    """Return the Markdown text for a config of defaults; keys without a row are listed last."""
    sections: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for key, default in leaves(cfg):
        section, _, leaf = key.rpartition(".")
        if key not in rows:
            others.setdefault(section, []).append(f"`{leaf}`")
            continue
        row = rows[key]
        cells = f"`{leaf}`", _cell(default), row.allowed, row.meaning
        sections.setdefault(section, []).append(f"| {' | '.join(cells)} |")
    return "\n".join([HEAD, *_tables(sections), TAIL, *_lists(others)]) + "\n"


def _cell(default: Any) -> str:
    return "empty" if default == "" else f"`{default!r}`"


def _tables(sections: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for section, lines in sections.items():
        title = f"`{section}`" if section else "Top level"
        yield f"## {title}\n\n| Key | Default | Allowed | Meaning |\n| --- | --- | --- | --- |"
        yield "\n".join(lines) + "\n"


def _lists(others: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for section, names in others.items():
        yield f"- `{section}`: {', '.join(names)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the document; return exit code 0, or 2 for a wrong argument."""
    return run_program(lambda: show(argv))


def show(argv: Sequence[str] | None) -> int:
    """Print the document."""
    Parser(__doc__).parse_args(argv)
    import trainers.settings  # imports torch, which --help does not need

    cfg = get_cfg_default()
    trainers.settings.extend_cfg(cfg)
    print(document(cfg, {**ROWS, **trainers.settings.ROWS}), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
