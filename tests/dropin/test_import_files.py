"""Files in trainers/ and datasets/ that cannot be imported are named, and disturb nothing else."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
import trainers
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import Registry, UsageError
from tests.toy_command import short_run, swap
from tests.trainers.toy_runs import ToyWorld

ROOT = Path(__file__).parents[2]


def test_every_file_of_this_project_is_imported_before_added_ones():
    for package, registry in ((trainers, TRAINER_REGISTRY), (datasets, DATASET_REGISTRY)):
        assert registry.left_out == []
        own = set()
        for module in Path(package.__file__).parent.glob("*.py"):
            if f"@{registry._name}_REGISTRY.register()" in module.read_text():
                own.add(module.stem)
        assert set(package.OWN) == own, f"set OWN in {package.__name__}/__init__.py to these files"


CLASS = "@REGISTRY.register()\nclass {}:\n    pass\n"
HEAD = "from zoo_registry import REGISTRY\n"
FILES = {
    "ant": HEAD + CLASS.format("Ant") + CLASS.format("Bee"),  # takes a name of the module bee
    "bee": HEAD + CLASS.format("Bee"),
    "cat": HEAD + CLASS.format("Cat") + "import no_such_library\n",
    "dog": HEAD + "from clip.model_mmrl import build\n" + CLASS.format("Dog"),
    "elk": HEAD + "from dassl.engine.dg.vanilla import Vanilla\n" + CLASS.format("Elk"),
    "fox": HEAD + CLASS.format("Fox") + "def broken(:\n",
    "gnu": HEAD + CLASS.format("Gnu") + "raise ValueError('first\\nsecond')\n",
    "hen": HEAD + CLASS.format("Hen") + "from . import ant\n",
    "owl": HEAD + CLASS.format("Owl"),
}
REASONS = {
    "Ant": "'Bee' is already registered in the ZOO registry, by zoo.bee; rename one of the two",
    "Cat": "importing it raises ModuleNotFoundError (No module named 'no_such_library'); install",
    "Dog": "importing it raises ModuleNotFoundError (No module named 'clip.model_mmrl'), so it "
    "needs the changed clip/ of its repository: start that repository's train.py instead",
    "Elk": "No module named 'dassl.engine.dg.vanilla'",
    "Fox": "importing it raises SyntaxError (",
    "Gnu": "importing it raises ValueError (first); correct the file, or remove it",
    "Hen": "'Bee' is already registered in the ZOO registry, by zoo.bee",
}


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Return a registry into which a package with the FILES was imported."""
    registry = Registry("ZOO")
    holder = type(sys)("zoo_registry")
    holder.REGISTRY = registry
    monkeypatch.setitem(sys.modules, "zoo_registry", holder)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "__init__.py").touch()
    for name, text in FILES.items():
        (tmp_path / "zoo" / f"{name}.py").write_text(text)
    (tmp_path / "zoo" / "yak").mkdir()
    (tmp_path / "zoo" / "yak" / "__init__.py").write_text(HEAD + CLASS.format("Yak") + "1 / 0\n")
    package = importlib.import_module("zoo")
    registry.import_files("zoo", package.__path__, first=("bee",), skip=("owl",))
    yield registry
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo"]:
        del sys.modules[name]


def test_what_can_be_imported_is(zoo):
    assert zoo.registered_names() == ["Bee"]
    assert zoo.get("Bee").__module__ == "zoo.bee"


@pytest.mark.parametrize("name", REASONS)
def test_a_name_of_a_file_that_is_left_out_is_explained(name, zoo):
    with pytest.raises(UsageError) as error:
        zoo.get(name)
    start = f"zoo '{name}' is not available: zoo/{name.lower()}.py is left out: "
    assert str(error.value).startswith(start)
    assert REASONS[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_a_package_is_named_by_its_init(zoo):
    with pytest.raises(UsageError, match=r"zoo/yak/__init__\.py is left out: .*ZeroDivisionError"):
        zoo.get("Yak")


def test_other_names_are_unknown_as_before(zoo):
    for name in ("Owl", "An"):
        with pytest.raises(UsageError, match=f"no zoo is registered as '{name}'"):
            zoo.get(name)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Return a copy of the program with files that cannot be used in trainers/ and datasets/."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copy(ROOT / "train.py", folder)
    for name in ("dassl", "clip", "assets", "configs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    for name in ("trainers", "datasets"):
        (folder / name).mkdir()
        for item in (ROOT / name).iterdir():
            if item.name != "__pycache__":
                (folder / name / item.name).symlink_to(item)
    # CoOp's own file under another name, which comes before ours in the alphabet.
    (folder / "trainers" / "a_coop.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY, TrainerX\n\n\n"
        "@TRAINER_REGISTRY.register()\nclass CoOp(TrainerX):\n    pass\n"
    )
    (folder / "trainers" / "dept.py").write_text("import plotnine_\n\n\nclass DePT:\n    pass\n")
    (folder / "datasets" / "birds.py").write_text("import scipy_\n\n\nclass Birds:\n    pass\n")
    return folder


def run(project, *argv):
    """Run train.py of the project; return the process."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "train.py", *map(str, argv)]
    return subprocess.run(command, cwd=project, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def command(project, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return [*short_run(ToyWorld(folder), folder), "OPTIM.MAX_EPOCH", "1"]


def test_a_run_names_the_files_and_goes_on(project, command):
    done = run(project, *command)
    assert done.returncode == 0, done.stderr
    for line in (
        "warning: trainers/a_coop.py is left out: 'CoOp' is already registered in the TRAINER "
        "registry, by trainers.coop; rename one of the two",
        "warning: trainers/dept.py is left out: importing it raises ModuleNotFoundError",
        "warning: datasets/birds.py is left out: importing it raises ModuleNotFoundError",
    ):
        assert done.stdout.count(line) == 1
    assert "* accuracy:" in done.stdout


def test_a_trainer_of_such_a_file_ends_with_its_reason(project, command):
    done = run(project, *swap(command, "--trainer", "DePT"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: trainer 'DePT' is not available: trainers/dept.py is left out: importing it raises "
        "ModuleNotFoundError (No module named 'plotnine_'); install what it imports, or add the "
        "missing file\n"
    )


def test_a_dataset_of_such_a_file_ends_with_its_reason(project, command):
    done = run(project, *command, "DATASET.NAME", "Birds")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: dataset 'Birds' is not available: datasets/birds.py is left out: importing it "
    )
