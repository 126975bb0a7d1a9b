"""Follow the checklists of CONTRIBUTING.md literally in a copy of the project."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy_data import write_image

ROOT = Path(__file__).parents[1]
PARTS = ("clip", "dassl", "datasets", "trainers", "configs", "scripts", "tests")


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Copy the project and add the example methods, the example dataset and their files."""
    project = tmp_path_factory.mktemp("project")
    for part in PARTS:
        shutil.copytree(ROOT / part, project / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("train.py", "pyproject.toml"):
        shutil.copy(ROOT / file, project)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    cases = project / "tests" / "trainers" / "toy_runs.py"
    files = {}
    for block in re.findall(r"```(?:python|yaml|text)\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\S+/\S+)\n", block)
        if name:
            files[name[1]] = block[name.end() :]
        else:
            lines = "TEST_CASES = [\n"
            cases.write_text(cases.read_text().replace(lines, lines + block))
    assert len(files) == 6
    for name, text in files.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    return project, list(files)


def run(project, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=project, capture_output=True, text=True, check=False
    )


def test_the_examples_are_formatted_and_pass_ruff(followed):
    project, files = followed
    sources = [name for name in files if name.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        done = run(project, "-m", "ruff", *command, "--no-cache", *sources)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("method", ["SSF", "LASP"])
def test_the_example_methods_pass_every_generic_test(followed, method):
    project, _ = followed
    done = run(
        project,
        *("-m", "pytest", "-k", method),
        *(f"tests/trainers/test_{name}.py" for name in ("trainers", "precision", "nonfinite")),
        *("-p", "no:cacheprovider"),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 18
    settings = (ROOT / "trainers" / "settings.py").read_text()
    assert "SSF" not in settings
    assert "LASP" not in settings


def test_the_example_method_with_an_added_loss_runs_on_critters(followed, tmp_path):
    code = (
        "import train\n"
        "args = train.build_parser().parse_args(['--config-file', "
        "'configs/trainers/LASP/critters.yaml', '--trainer', 'LASP'])\n"
        "cfg = train.setup_cfg(args)[0]\n"
        "print(cfg.MODEL.BACKBONE.NAME, cfg.TRAINER.LASP.PREC, cfg.TRAINER.LASP.WEIGHT)\n"
    )
    done = run(followed[0], "-c", code)
    assert done.stdout.endswith("critters-vit-t fp32 5.0\n"), done.stderr[-2000:]


def test_the_example_dataset_is_read(followed, tmp_path):
    split = {"train": [], "val": [], "test": []}
    for label, name in enumerate(["oak", "maple", "birch"]):
        for part, items in split.items():
            for i in range(2):
                write_image(tmp_path / "leaves" / "images" / f"{name}_{part}{i}.jpg", seed=i)
                items.append([f"{name}_{part}{i}.jpg", label, name])
    (tmp_path / "leaves" / "split_leaves.json").write_text(json.dumps(split))
    code = (
        "import datasets\n"
        "from dassl.config import get_cfg_default, merge_file\n"
        "from dassl.data.datasets import build_dataset\n"
        "import trainers\n"
        "cfg = get_cfg_default(); trainers.extend_cfg(cfg)\n"
        "merge_file(cfg, 'configs/datasets/leaves.yaml')\n"
        f"cfg.DATASET.ROOT = {str(tmp_path)!r}; cfg.DATASET.SUBSAMPLE_CLASSES = 'base'\n"
        "print(build_dataset(cfg).classnames)\n"
    )
    done = run(followed[0], "-c", code)
    assert done.stdout.endswith("['oak', 'maple']\n"), done.stderr[-2000:]
