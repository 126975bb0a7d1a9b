"""From a folder of images to a table: scripts/own.sh."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from datasets.own_split import needs_split, write_split
from scripts import own
from scripts.runner.job import Workspace
from tests.toy_data import write_image

ROOT = own.ROOT
SETTINGS = {"BACKBONE": "critters-vit-t"}


def make_classes(folder: Path, classes: int, images: int) -> None:
    for label in range(classes):
        for number in range(images):
            write_image(folder / f"kind {label}" / f"{number}.png", seed=label, size=16)


@pytest.mark.parametrize(
    ("images", "epochs"), [(1, 200), (32, 200), (160, 40), (640, 10), (100_000, 10)]
)
def test_small_folders_are_trained_for_more_epochs(images: int, epochs: int) -> None:
    assert own.epochs_for(images) == epochs


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        (["x", "many"], {}, "SHOTS must be a whole number from 1 to 1,000,000, got 'many'"),
        (["x", "0"], {}, "SHOTS must be"),
        (["x"], {"SEED": "-1"}, "SEED must be a whole number from 0 to"),
        (["x", "4", "OPTIM.MAX_EPOCH"], {}, "OPTIM.MAX_EPOCH"),
        (["x"], {}, "there is no .*/x: give a folder"),
    ],
)
def test_wrong_arguments(
    words: list[str],
    env: dict[str, str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert own.main(words, {**env, "OUTPUT": str(tmp_path / "out")}) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line)
    assert not any(tmp_path.iterdir())


def test_jobs_of_a_folder(tmp_path: Path) -> None:
    make_classes(tmp_path / "own", classes=3, images=10)
    assert needs_split(str(tmp_path / "own"))
    images = own.training_images(tmp_path / "own")
    assert images == Counter({f"kind {label}": 5 for label in range(3)})
    assert not needs_split(str(tmp_path / "own"))
    workspace = Workspace(ROOT, tmp_path / "own", tmp_path / "out")
    for env, config in ((SETTINGS, "critters"), ({}, "own")):
        jobs = own.plan_jobs(own.parse([str(tmp_path / "own")], env), workspace, images)
        assert [job.trainer for job in jobs] == ["ZeroshotCLIP", "CoOp", "TextRefinerCoOp"]
        assert {Path(job.config).name for job in jobs} == {config}
        assert {job.options["OPTIM.MAX_EPOCH"] for job in jobs} == {"200"}
        assert [job.options.get("DATASET.NUM_SHOTS") for job in jobs] == [None, "5", "5"]
        assert all("DATASET.SUBSAMPLE_CLASSES" not in job.options for job in jobs)


def test_from_a_folder_to_a_table(tmp_path: Path) -> None:
    """The real command on the bundled CLIP, which warns that it does not know the words."""
    make_classes(tmp_path / "own", classes=2, images=8)
    write_split(str(tmp_path / "own"), seed=1)
    command = ["bash", "scripts/own.sh", str(tmp_path / "own"), "2", "OPTIM.MAX_EPOCH", "1"]
    command += ["TRAINER.COOP.CTX_INIT", "a drawing of a"]
    env = {**SETTINGS, "OUTPUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/own/own/critters-vit-t"
    (table,) = json.loads((folder / "results.json").read_text())["tables"]
    assert [row["method"] for row in table["rows"]] == [
        "zero-shot CLIP",
        "CoOp",
        "CoOp + TextRefiner",
    ]
    assert table["columns"] == ["0 shots", "2 shots"]
    assert (folder / "results.md").read_text() in done.stdout
    logs = "".join(path.read_text() for path in folder.glob("**/ZeroshotCLIP/**/log.txt"))
    assert "Prompts: ['a drawing of a {}.']" in logs
    warning = "warning: critters-vit-t has never seen the words 'kind'"
    assert done.stdout.count(warning) == 1
    assert "such as ViT-B/16" in done.stdout


@pytest.mark.parametrize("installed", [True, False])
def test_report_is_written_if_this_version_can(
    installed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    make_classes(tmp_path / "own", classes=2, images=4)
    images = own.training_images(tmp_path / "own")
    workspace = Workspace(ROOT, tmp_path / "own", tmp_path / "out")
    job = own.plan_jobs(own.parse([str(tmp_path / "own")], SETTINGS), workspace, images)[-1]
    monkeypatch.setattr(own, "ROOT", tmp_path)
    capfd.readouterr()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if installed else None)
    assert own.write_report(job, workspace) == 0
    assert capfd.readouterr().out == ""  # there is no scripts/report.py

    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/report.py").write_text("import sys; print(sys.argv[1:])")
    assert own.write_report(job, workspace) == 0
    shown = capfd.readouterr().out
    arguments = str([str(job.folder), "--out", str(workspace.output / "report.html")])
    assert (arguments in shown) == installed
    assert ("it needs jinja2" in shown) == (not installed)
