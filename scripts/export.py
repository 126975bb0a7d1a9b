"""Export a trained model to a folder that other software loads.

    python scripts/export.py output/.../seed1 exported --to onnx

    --to matrix        classifier matrix (C, d), logit scale and class names, as safetensors
    --to onnx          a graph from images to logits, checked with onnxruntime before it is written
    --to open_clip     a folder for open_clip: the frozen CLIP and the matrix
    --to transformers  a folder for transformers: the frozen image encoder and the matrix

RUN is the output folder of a training, or of scripts/convert_checkpoint.py --to ours. OUT appears
complete or not at all; it must be missing, empty or an earlier export. Its README.md is a model
card with the code to use it. onnx and transformers need requirements-export.txt. docs/inference.md
says which methods each format supports. Exit codes: 0 done, 2 wrong usage or files, 74 the machine
failed.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UsageError, write_json
from dassl.utils.env import library_versions
from dassl.utils.failures import run_program
from scripts.exporting.arguments import add_model_arguments, load_model
from scripts.exporting.folder import MADE_BY, MARKER, check_target, new_export
from scripts.exporting.formats import FORMATS, image_settings, writer


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="output folder of a training")
    add("out", metavar="OUT", type=Path, help="folder to write")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("--classes", default="", help="names separated by commas; default: those of the training")
    add(
        "--images",
        nargs="+",
        default=[],
        metavar="PATH",
        help="images for the check of --to onnx; default: six drawn ones",
    )
    add_model_arguments(parser)
    return parser


def export(args: argparse.Namespace) -> None:
    """Write the export and print its files."""
    if args.images and args.to != "onnx":
        raise UsageError(f"--images is for the check of --to onnx, not for --to {args.to}")
    out = args.out.resolve()
    check_target(out)
    with contextlib.redirect_stdout(sys.stderr):  # exporters print their progress
        write = writer(args.to)
        names = [name.strip() for name in args.classes.split(",")] if args.classes else None
        classifier = load_model(args, classnames=names, device="cpu", precision="fp32")
        with new_export(out) as folder:
            _write(args, write, classifier, folder)
    for path in sorted(args.out.iterdir()):
        print(f"{path}  {path.stat().st_size:,} bytes")


def _write(args: argparse.Namespace, write: Any, classifier: Any, folder: Path) -> None:
    from scripts.exporting.card import model_card, write_card
    from trainers.classifier.recorded import read_recorded

    image = image_settings(classifier)
    written = write(classifier, folder, args.images)
    record = {
        "made_by": MADE_BY,
        "format": args.to,
        "method": classifier.method,
        "backbone": classifier.backbone,
        "checkpoint": classifier.checkpoint,
        "classes": classifier.classnames,
        "logit_scale": classifier.logit_scale,
        "image": image,
        "versions": library_versions(),
    }
    write_json(record, folder / MARKER)
    recorded = read_recorded(args.run)
    write_card(folder, model_card(classifier, recorded, args.run, args.to, written))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = build_parser().parse_args(argv)
    from trainers.settings import SettingsError  # imports torch, which --help does not need

    def command() -> int:
        export(args)
        return 0

    return run_program(command, "nothing was written", usage=(SettingsError,))


if __name__ == "__main__":
    sys.exit(main())
