"""The check-lists of CONTRIBUTING.md, followed word for word in a copy of the project."""

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
    """The project with the example learner and the example dataset."""
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
    assert len(files) == 4
    for name, text in files.items():
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    return project


def run(project, *command):
    return subprocess.run(
        [sys.executable, *command], cwd=project, capture_output=True, text=True, check=False
    )


def test_the_example_learner_passes_every_generic_test(followed):
    done = run(
        followed,
        *("-m", "pytest", "-k", "CLIPAdapter"),
        *(f"tests/trainers/test_{name}.py" for name in ("trainers", "precision", "nonfinite")),
        *("-p", "no:cacheprovider"),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 18
    assert "ADAPTER" not in (ROOT / "trainers" / "settings.py").read_text()


def test_the_example_data_set_is_read(followed, tmp_path):
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
    done = run(followed, "-c", code)
    assert done.stdout.endswith("['oak', 'maple']\n"), done.stderr[-2000:]
