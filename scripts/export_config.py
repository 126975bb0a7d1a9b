"""Print a config as one whole YAML for a CoOp checkout, whose Dassl does not know _BASE_.

    python scripts/export_config.py configs/trainers/TextRefinerCoOp/vit_b16_ep10_ctxv1.yaml

Every key is one of the original Dassl's or of those that trainers.extend_cfg adds; a setting that
this project's dassl/ alone has is left out and said on stderr. docs/coop_users.md says the rest.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.config import with_bases
from dassl.config.flat import decode, flatten
from dassl.utils import UsageError

# Settings of this project's dassl/ that the original lacks (dassl/config/defaults.py marks them).
OURS = ("TEST.SELECT_ON_TEST", "DATALOADER.FEATURE_STORE", "DATALOADER.VIEWS")


def export(path: Path) -> tuple[str, list[str]]:
    """The YAML text of ``path`` over its bases, and the keys that were left out."""
    values = {key: value for _, tree in with_bases(path) for key, value in flatten(tree)}
    left_out = [key for key in values if key in OURS]
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if key in OURS:
            continue
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        value = decode(value)
        node[leaf] = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(tree, sort_keys=False), left_out


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for a file that is no config (one sentence)."""
    words = sys.argv[1:] if argv is None else list(argv)
    if len(words) != 1 or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words[:1] in (["-h"], ["--help"]) else 2
    try:
        text, left_out = export(Path(words[0]))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text, end="")
    for key in left_out:
        print(f"left out: {key}, which the original Dassl does not have", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
