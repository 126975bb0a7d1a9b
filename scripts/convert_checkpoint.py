"""Convert output folders of public code to our layout, or TextRefiner's to that of its release.

    python scripts/convert_checkpoint.py --to ours RELEASE_OUTPUT OURS
    python scripts/convert_checkpoint.py --to release OURS RELEASE_OUTPUT --backbone ViT-B/16

    --to ours       from CoOp, CoCoOp, KgCoOp, TCP, ATPrompt, MaPLe, PromptSRC, MMRL, CLIP-Adapter,
                    TaskRes, PromptKD, or TextRefiner's release on CoOp or PromptKD; with --backbone
                    the copies of CLIP in the files are checked
    --to release    TextRefiner on CoOp or PromptKD; the files contain CLIP, by default the model
                    named in checkpoint.json

All epochs are converted. Learned tensors, epoch and validation result are copied bit for bit; the
states of optimizer and schedule are left out, so a converted folder can be tested, not resumed.
The target must not exist or be an empty folder. docs/checkpoints.md describes the layouts.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError
from dassl.utils.arguments import Parser, path
from dassl.utils.failures import run_program


def main(argv: Sequence[str] | None = None) -> int:
    """Return exit code 0, or 2 if the input cannot be converted, with one line on stderr."""
    parser = Parser(__doc__)
    parser.add_argument("--to", required=True, choices=("ours", "release"))
    parser.add_argument("--backbone", default="", help="CLIP by name or path")
    parser.add_argument("source", type=path)
    parser.add_argument("target", type=path)
    return run_program(lambda: convert(parser.parse_args(argv)))


def convert(args: Namespace) -> int:
    """Convert the folder and return exit code 0; raise UsageError for a wrong one."""
    # Imported here because they import torch, which --help does not need.
    from trainers.checkpoints.convert import to_ours, to_release
    from trainers.settings import SettingsError

    converter = to_ours if args.to == "ours" else to_release
    try:
        method = converter(args.source, args.target, args.backbone)
    except SettingsError as error:
        raise UsageError(str(error)) from error
    print(f"{method}: {args.source} -> {args.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
