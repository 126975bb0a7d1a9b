"""A project with the real scripts/, small configs and a fake train.py that only writes files.

Environment variables control it: FAKE_EXIT sets the exit code, FAKE_STOP makes it
write a checkpoint of epoch 1 and fail, and FAKE_SLEEP sets the seconds between epochs.
"""

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from scripts.runner.job import Workspace

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import argparse, json, os, sys, time
from pathlib import Path
from dassl.engine import run_records

parser = argparse.ArgumentParser()
for flag in ("root", "trainer", "dataset-config-file", "config-file", "output-dir"):
    parser.add_argument("--" + flag)
parser.add_argument("--model-dir", default="")
parser.add_argument("--seed", type=int)
parser.add_argument("--load-epoch", type=int)
parser.add_argument("--eval-only", action="store_true")
parser.add_argument("opts", nargs=argparse.REMAINDER)
args = parser.parse_args()
options = dict(zip(args.opts[::2], args.opts[1::2]))


def run(folder):
    models = folder / "prompt_learner"
    resumed = models.is_dir()
    with open(folder / "log.txt", "a") as log:
        print("resumed" if resumed else "fresh", *sys.argv[1:], file=log)
        print("output of the fake")
        if not args.eval_only:
            models.mkdir(exist_ok=True)
            (models / "model.pth.tar-1").write_text("1")
            log.flush()
        if "FAKE_STOP" in os.environ:
            sys.exit("stopped")
        time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
        if not args.eval_only:
            (models / "model.pth.tar-3").write_text("3")
            (models / "model-best.pth.tar").write_text("2")
            print("Finish training", file=log)
        print("=> result\\n* accuracy: 50.0%", file=log)
    classes = options.get("DATASET.SUBSAMPLE_CLASSES", "all")
    accuracy = (60.0 if classes == "base" else 40.0) + args.seed
    (folder / "result.json").write_text(json.dumps({
        "trainer": args.trainer, "dataset": "Critters", "config": Path(args.config_file).stem,
        "seed": args.seed, "shots": 16, "classes": classes, "source": None, "epoch": 3,
        "selection": "zero-shot" if args.trainer == "ZeroshotCLIP" else "last_step",
        "backbone": "toy", "split": "test",
        "settings": {key: value for key, value in options.items() if key.startswith("TRAINER.")},
        "accuracy": accuracy, "total": 100, "correct": int(accuracy),
        "resources": {"host_bytes": 2**30, "cuda_bytes": None},
    }))
    if "FAKE_EXIT" in os.environ:
        sys.exit(int(os.environ["FAKE_EXIT"]))


run_records.end_with_runner()
flags = {"--trainer": args.trainer, "--seed": args.seed}
flags |= {"--eval-only": args.eval_only, "--load-epoch": args.load_epoch}
settings = run_records.run_settings([args.dataset_config_file, args.config_file], flags, options)
try:
    with run_records.folder_lock(args.output_dir):
        with run_records.recorded_run(
            args.output_dir, settings, args.model_dir, time.monotonic()
        ) as checks_passed:
            checks_passed()
            run(Path(args.output_dir))
except run_records.FolderInUseError as error:
    print(f"error: {error}")
    sys.exit(run_records.IN_USE)
"""

CONFIG = "OPTIM:\n  MAX_EPOCH: 3\nTRAINER:\n  COOP:\n    CTX_INIT: a photo of a\n"
COCOOP = CONFIG.replace("3", "10").replace("COOP", "COCOOP")
CONFIGS = {
    "datasets/critters": "DATASET:\n  NAME: Critters\n",
    "datasets/dtd": "DATASET:\n  NAME: DescribableTextures\n",
    "datasets/imagenet": "DATASET:\n  NAME: ImageNet\n",
    "trainers/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1": COCOOP,
    "trainers/CoOp/critters": CONFIG,
    "trainers/CoOp/vit_b16": "OPTIM:\n  MAX_EPOCH: 200\n",
    "trainers/CoOp/vit_b16_ctxv1": "_BASE_: vit_b16.yaml\n" + CONFIG.partition("3\n")[2],
    "trainers/CoOp/vit_b16_ep50": "_BASE_: vit_b16.yaml\nOPTIM:\n  MAX_EPOCH: 50\n",
    "trainers/CoOp/vit_b16_ep50_ctxv1": "_BASE_: vit_b16_ctxv1.yaml\nOPTIM:\n  MAX_EPOCH: 50\n",
    "trainers/CoOp/vit_b16_ep100": "_BASE_: vit_b16.yaml\nOPTIM:\n  MAX_EPOCH: 100\n",
    "trainers/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1": COCOOP,
    "trainers/TextRefinerCoOp/critters": CONFIG,
    "trainers/TextRefinerCoOp/vit_b16_ep10_ctxv1": CONFIG.replace("3", "10"),
}


def make_project(folder: Path) -> Workspace:
    """Create a root with the real protocol table, small configs and the fake train.py."""
    for name, text in CONFIGS.items():
        path = folder / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copy(ROOT / "configs" / "protocols.yaml", folder / "configs")
    (folder / "train.py").write_text(TRAIN)
    (folder / "dassl").symlink_to(ROOT / "dassl")
    (folder / "data").mkdir()
    return Workspace(folder, folder / "data", folder / "output")


def add_scripts(folder: Path) -> None:
    """Copy scripts/ to ``folder``, so that its shell scripts run the fake train.py."""
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in ("benchmarks", "clip", "datasets", "trainers"):
        (folder / name).symlink_to(ROOT / name)


def is_locked(folder: Path) -> bool:
    """Return whether a train.py is running in ``folder``."""
    lock = FileLock(folder / "running.lock")
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
