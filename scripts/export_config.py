"""Print a config, merged with its _BASE_ files, as one YAML for a CoOp checkout.

    python scripts/export_config.py configs/trainers/TextRefinerCoOp/vit_b16_ep10_ctxv1.yaml

The original Dassl does not know _BASE_. Its keys and those of trainers.extend_cfg are exported;
settings that only this project's dassl/ has are left out and listed on stderr. See
docs/coop_users.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.config.flat import read_config
from dassl.utils.arguments import Parser, path
from dassl.utils.failures import run_program

# Settings of this project's dassl/ that the original does not have (see dassl/config/defaults.py).
OURS = ("TEST.SELECT_ON_TEST", "DATALOADER.FEATURE_STORE", "DATALOADER.VIEWS")


def export(config: Path) -> tuple[str, list[str]]:
    """Return the YAML text of the config and its bases, and the keys that were left out."""
    values = read_config(config)
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if key not in OURS:
            *sections, leaf = key.split(".")
            node = tree
            for section in sections:
                node = node.setdefault(section, {})
            node[leaf] = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(tree, sort_keys=False), [key for key in values if key in OURS]


def main(argv: Sequence[str] | None = None) -> int:
    """Return exit code 0, or 2 if the file is not a config, with one line on stderr."""
    parser = Parser(__doc__)
    parser.add_argument("config", type=path)
    return run_program(lambda: show(parser.parse_args(argv).config))


def show(config: Path) -> int:
    """Print the YAML text of a config, and on stderr what was left out; return exit code 0."""
    text, left_out = export(config)
    print(text, end="")
    for key in left_out:
        print(f"left out: {key}, which the original Dassl does not have", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
