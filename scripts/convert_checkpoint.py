"""Turn the output folder of public code into ours, or one of TextRefiner into its release's.

    python scripts/convert_checkpoint.py --to ours RELEASE_OUTPUT OURS
    python scripts/convert_checkpoint.py --to release OURS RELEASE_OUTPUT --backbone ViT-B/16

    --to ours       from CoOp, CoCoOp, MaPLe, PromptSRC, PromptKD, or TextRefiner's release on
                    CoOp or PromptKD; with --backbone the files' copies of CLIP are compared
    --to release    TextRefiner on CoOp or PromptKD; the files hold CLIP, by default the one that
                    checkpoint.json names

All epochs are converted. What is learned, the epoch and the validation result are kept to the bit;
states of optimizer and schedule are left out, so a converted folder is tested, not trained further.
The target must not exist, or be an empty folder. docs/checkpoints.md describes the layouts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clip.weights import WeightsError
from dassl.utils import UsageError
from trainers.checkpoints.convert import to_ours, to_release
from trainers.settings import SettingsError


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 for input that cannot be converted (one sentence)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--to", required=True, choices=("ours", "release"))
    parser.add_argument("--backbone", default="", help="CLIP by name or path")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    args = parser.parse_args(argv)
    convert = to_ours if args.to == "ours" else to_release
    try:
        method = convert(args.source, args.target, args.backbone)
    except (UsageError, SettingsError, WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{method}: {args.source} -> {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
