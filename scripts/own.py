"""Train a classifier of your own images: zero-shot CLIP, CoOp and CoOp + TextRefiner, and a table.

    scripts/own.sh FOLDER                # 16 training images of each class, or as many as there are
    scripts/own.sh FOLDER 4              # 4 of each class
    scripts/own.sh images.csv 4 TRAINER.COOP.CTX_INIT "a close-up photo of a"

FOLDER is a folder of class folders, one with train/ and test/, or a list of images (a CSV or JSONL
file, or a folder with images.csv or images.jsonl): docs/own_images.md. If it has no split, one is
drawn with seed 1 and recorded beside the images. KEY VALUE pairs are for train.py.

Environment variables

    BACKBONE  CLIP by name or path; default: ViT-B/16, which is downloaded once. critters-vit-t is
              bundled and needs no download, but knows the words of Critters only
    OUTPUT    folder of the results; default: output/ of the repository
    SEED      of the few-shot sample and the training; default: 1

Results are in OUTPUT/own/<folder>/<backbone>. Finished jobs are skipped when it is run again, and
unfinished ones resumed. Exit codes: those of train.py; 2: wrong usage; 130: Ctrl-C.
"""

import contextlib
import importlib.util
import io
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.config.flat import parse_pairs  # noqa: E402
from dassl.engine.run_records import RESULT, read_result  # noqa: E402
from dassl.utils import UsageError  # noqa: E402
from dassl.utils.arguments import MAX_SEED, given_path  # noqa: E402
from scripts.runner.execute import run_chains, run_command, run_in_threads  # noqa: E402
from scripts.runner.files import make_folder  # noqa: E402
from scripts.runner.job import FAILED, Job, Request, Result, Workspace  # noqa: E402
from scripts.runner.plan import plan  # noqa: E402
from scripts.runner.resources import show_estimates  # noqa: E402
from scripts.tables.load import Run, read_run  # noqa: E402
from scripts.tables.names import method_name  # noqa: E402
from scripts.tables.render import save  # noqa: E402
from scripts.tables.rows import Options  # noqa: E402
from scripts.tables.tables import build  # noqa: E402

DATASET = "image_folder"  # below configs/datasets
SHOTS = 16
BATCH = 32  # of configs/trainers/base.yaml
STEPS = 200  # of a training, at least; the papers have 150 to 10,000
EPOCHS = (10, 200)  # of the paper's TextRefiner, of CoOp


@dataclass(frozen=True)
class CommandLine:
    """The checked arguments of own.py; ``shots`` 0: `SHOTS`, or as many as there are."""

    folder: Path
    shots: int
    options: Mapping[str, str]
    backbone: str
    seed: int


def parse(words: Sequence[str], env: Mapping[str, str]) -> CommandLine:
    """Parse arguments and environment; raise UsageError if one is missing or not allowed."""
    folder, *rest = words
    shots = 0
    if rest and "." not in rest[0]:
        shots = _whole("SHOTS", rest.pop(0), 1, 1_000_000)
    backbone, seed = env.get("BACKBONE") or "ViT-B/16", env.get("SEED") or "1"
    return CommandLine(
        given_path(folder).absolute(),
        shots,
        parse_pairs(rest),
        backbone,
        _whole("SEED", seed, 0, MAX_SEED),
    )


def _whole(name: str, word: str, low: int, high: int) -> int:
    if word.isascii() and word.isdigit() and len(word) < 20 and low <= int(word) <= high:
        return int(word)
    raise UsageError(f"{name} must be a whole number from {low:,} to {high:,}, got {word!r}")


def training_images(root: Path) -> Counter[str]:
    """Return the number of training images of each class; draw a split if there is none."""
    from dassl.config import get_cfg_default
    from datasets.image_folder import ImageFolder
    from datasets.own_split import needs_split, write_split

    if needs_split(str(root)):
        write_split(str(root), seed=1)
    cfg = get_cfg_default()
    cfg.DATASET.ROOT, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), "all"
    with contextlib.redirect_stdout(io.StringIO()):  # train.py prints the same
        dataset = ImageFolder(cfg)
    return Counter(item.classname for item in dataset.train_x)


def epochs_for(images: int) -> int:
    """Return how many epochs of ``images`` are at least `STEPS` steps, within `EPOCHS`."""
    steps = max(1, images // BATCH)
    return min(max(-(-STEPS // steps), EPOCHS[0]), EPOCHS[1])


def plan_jobs(line: CommandLine, workspace: Workspace, images: Counter[str]) -> list[Job]:
    """Return the zero-shot test and the two trainings."""
    shots = line.shots or min(SHOTS, max(images.values()))
    total = sum(min(shots, count) for count in images.values())
    options = {
        "MODEL.BACKBONE.NAME": line.backbone,
        "OPTIM.MAX_EPOCH": str(epochs_for(total)),
        **line.options,
    }
    # The bundled models see 64 x 64 pixels.
    config = "critters" if line.backbone.startswith("critters-") else "own"
    zero_shot = Request("coop", "zeroshot", DATASET, line.seed, options, config)
    trained = [
        Request(method, "fewshot", DATASET, line.seed, options, config, (shots,))
        for method in ("coop", "textrefiner")
    ]
    jobs = plan(zero_shot, workspace)[:1]  # on all classes; the others are base and new ones
    return jobs + [job for request in trained for job in plan(request, workspace)]


def run_own(line: CommandLine, output: Path) -> int:
    """Run the jobs, print and write their table; return the exit code."""
    images = training_images(line.folder)
    backbone = re.sub(r"[^\w.-]+", "-", line.backbone).strip("-.")
    workspace = Workspace(ROOT, line.folder, output / "own" / line.folder.stem / backbone)
    jobs = plan_jobs(line, workspace, images)
    print(
        f"{line.folder}: {len(images)} classes with {min(images.values())} to "
        f"{max(images.values())} training images; results in {workspace.output}"
    )
    make_folder(workspace.output, "OUTPUT")
    show_estimates([jobs], workspace)
    warned: set[str] = set()
    failed: list[Result] = []

    def watch(result: Result) -> None:
        if result.status == FAILED:
            failed.append(result)
            return
        for text in read_result(result.job.folder).get("warnings", []):
            if text not in warned:
                print(f"warning: {text}", flush=True)
            warned.add(text)

    run_chains([jobs], workspace, workspace.output, partial(run_in_threads, workers=1), watch)
    if failed:
        print(f"error: {failed[0].reason}", file=sys.stderr)
        return failed[0].code
    runs = [read_run(job.folder / RESULT) for job in jobs]
    table = save(build(runs, Options([line.seed], label)), workspace.output)
    print(f"\n{table}")
    print(f"table        {workspace.output / 'results.md'}")
    print(f"classifier   {jobs[-1].folder}")
    return write_report(jobs[-1], workspace)


def label(run: Run) -> str:
    """Return the name of a run in the table."""
    return method_name(run.trainer)


def write_report(job: Job, workspace: Workspace) -> int:
    """Write the HTML report of a training, if this version has scripts/report.py."""
    script, page = ROOT / "scripts" / "report.py", workspace.output / "report.html"
    if not script.is_file():
        return 0
    if importlib.util.find_spec("jinja2") is None:
        print('report       none: it needs jinja2, pip install -e ".[report]"')
        return 0
    command = [sys.executable, str(script), str(job.folder), "--out", str(page)]
    code = subprocess.run(command, cwd=ROOT).returncode
    if code == 0:
        print(f"report       {page}")
    return code


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command line and return its exit code."""
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0 if words else 2

    def command() -> int:
        line = parse(words, env)
        output = Workspace.from_env({"OUTPUT": env.get("OUTPUT", "")}, verbose=False).output
        return run_own(line, output)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
