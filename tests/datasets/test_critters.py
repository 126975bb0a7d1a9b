"""The files of Critters are deterministic and complete, and rendering resumes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import datasets  # noqa: F401  (registers the datasets)
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from datasets.critters import Critters
from datasets.critters_world import SHIFTS, SPECIES, downstream_species
from datasets.critters_world.folder import Plan, prepare_folder

ROOT = Path(__file__).parents[2]
SMALL = Plan(species=(3, 40, 71), shift="morph50", train=3, val=2, test=2)


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def config(root: Path, subsample: str = "all", shots: int = -1):
    cfg = get_cfg_default()
    cfg.merge_from_file(str(Path(__file__).parents[2] / "configs/datasets/critters.yaml"))
    cfg.DATASET.ROOT = str(root)
    cfg.DATASET.NUM_SHOTS = shots
    cfg.DATASET.SUBSAMPLE_CLASSES = subsample
    cfg.SEED = 1
    return cfg


@pytest.fixture
def few_images(monkeypatch):
    """Reduce Critters to a few images of each of its 36 classes."""
    monkeypatch.setattr(Critters, "plan", replace(Critters.plan, train=2, val=1, test=1))
    monkeypatch.setattr(Critters, "counts", None)


def test_images_are_independent_of_each_other():
    wanted = [("train", 0, 2), ("val", 1, 0), ("test", 2, 1)]
    forwards = [SMALL.draw(*image) for image in wanted]
    backwards = [SMALL.draw(*image) for image in reversed(wanted)]
    more = replace(SMALL, train=50, val=9, test=7)
    for image, first, second in zip(wanted, forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(first, more.draw(*image))


def test_all_images_are_different():
    images = [SMALL.draw(*image).tobytes() for image in SMALL.images()]
    assert len(set(images)) == len(images) == 3 * (3 + 2 + 2)
    assert SMALL.draw("val", 0, 0).tobytes() != replace(SMALL, seed=1).draw("val", 0, 0).tobytes()


def test_images_do_not_depend_on_the_number_of_processes(tmp_path):
    prepare_folder(SMALL, tmp_path / "one", workers=1)
    prepare_folder(SMALL, tmp_path / "two", workers=2)
    one = files(tmp_path / "one")
    assert one == files(tmp_path / "two")
    assert len(one) == 21 + 3  # images, world.json, split_critters.json, drawing.lock


def run_workers(*statements: str) -> subprocess.CompletedProcess:
    """Run statements in a process of their own; return once it and its workers have ended."""
    code = "\n".join(
        [
            "import os, signal",
            "from datasets.critters_world.workers import run_jobs",
            "signal.signal(signal.SIGTERM, lambda *_: None)  # workers inherit this",
            *statements,
        ]
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_workers_end_after_the_last_job():
    assert run_workers("print(*run_jobs(chr, [65, 66, 67], 2))").stdout == "A B C\n"


def test_workers_end_after_an_error():
    ran = run_workers("list(run_jobs(chr, [65, -1, 66], 2))")
    assert ran.stderr.splitlines()[-1].startswith("ValueError: chr()")


def test_workers_end_when_their_parent_is_killed():
    ran = run_workers(
        "for _ in run_jobs(chr, [65, 66, 67], 2):", "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert ran.returncode == -9


def test_files_match_the_plan(tmp_path):
    prepare_folder(SMALL, tmp_path, workers=1)
    split = json.loads((tmp_path / "split_critters.json").read_text())
    assert {part: len(rows) for part, rows in split.items()} == {"train": 9, "val": 6, "test": 6}
    path, label, name = split["test"][3]
    assert (path, label) == (f"{SPECIES[40].name.replace(' ', '_')}/test_0002.png", 1)
    assert name == SPECIES[40].name
    with Image.open(tmp_path / "images" / path) as image:
        np.testing.assert_array_equal(np.asarray(image), SMALL.draw("test", 1, 1))


def test_incomplete_folder_is_completed(tmp_path):
    prepare_folder(SMALL, tmp_path, workers=1)
    whole = files(tmp_path)
    images = sorted((tmp_path / "images").glob("*/*.png"))
    for path in images[::2]:
        path.unlink()
    (tmp_path / "split_critters.json").unlink()
    (images[0].parent / ".train_0001-99.tmp.png").write_bytes(b"half")
    kept = {path: path.stat().st_mtime_ns for path in images[1::2]}
    prepare_folder(SMALL, tmp_path, workers=1)
    assert files(tmp_path) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_complete_folder_is_unchanged(tmp_path, capsys):
    prepare_folder(SMALL, tmp_path, workers=1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    prepare_folder(SMALL, tmp_path, workers=1)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [({"shift": "hue12"}, "shift morph50 there, hue12 here"), ({"seed": 5}, "seed 2026 there")],
)
def test_images_of_another_plan_raise(tmp_path, change, words):
    prepare_folder(SMALL, tmp_path, workers=1)
    with pytest.raises(UsageError, match=f"{words}.*delete that folder"):
        prepare_folder(replace(SMALL, **change), tmp_path, workers=1)


def test_images_of_another_world_raise(tmp_path, monkeypatch):
    prepare_folder(SMALL, tmp_path, workers=1)
    monkeypatch.setattr("datasets.critters_world.folder.WORLD_VERSION", 99)
    with pytest.raises(UsageError, match="world 1 there, 99 here"):
        prepare_folder(SMALL, tmp_path, workers=1)


def test_a_second_process_waits_for_the_images(tmp_path):
    code = f"""
from pathlib import Path
from datasets.critters_world.folder import Plan, prepare_folder
prepare_folder(Plan((3, 40), "morph50", train=60, val=0, test=0), Path({str(tmp_path)!r}))
"""
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    logs = sorted((process.communicate(timeout=120)[0] for process in running), key=len)
    assert [process.returncode for process in running] == [0, 0]
    rendering = [line for log in logs for line in log.splitlines() if "Rendering" in line]
    assert rendering == [f"Rendering 120 images of Critters to {tmp_path}/images"]
    assert len(list(tmp_path.glob("images/*/*"))) == 120


def test_the_line_of_a_waiting_process(tmp_path, capfd):
    with FileLock(tmp_path / "drawing.lock"):
        waiting = threading.Thread(target=prepare_folder, args=(SMALL, tmp_path, 1))
        waiting.start()
        out = ""
        while not out.endswith("\n"):
            out += capfd.readouterr().out
        assert not (tmp_path / "world.json").exists()
    waiting.join()
    assert out == (
        "Waiting for another process, which draws the images of Critters (it has locked "
        f"{tmp_path}/drawing.lock)\n"
    )
    assert (tmp_path / "split_critters.json").exists()


def test_lock_of_a_killed_process_is_released(tmp_path):
    statements = f"""
from datasets.locks import writing
with writing({str(tmp_path / "drawing.lock")!r}, "draws"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_workers(statements).returncode == -9
    assert (tmp_path / "drawing.lock").exists()
    prepare_folder(SMALL, tmp_path, workers=1)
    assert len(list(tmp_path.glob("images/*/*"))) == 21


@pytest.mark.parametrize("marker", [None, "{broken", "[]", '{"world": 1, "species": 3}'])
def test_images_of_unknown_origin_raise(tmp_path, marker):
    prepare_folder(SMALL, tmp_path, workers=1)
    if marker is None:
        (tmp_path / "world.json").unlink()
    else:
        (tmp_path / "world.json").write_text(marker)
    with pytest.raises(UsageError, match=r"world\.json.*delete that folder"):
        prepare_folder(SMALL, tmp_path, workers=1)


def test_base_and_new_classes_are_three_of_each_genus(tmp_path, few_images):
    sets = {half: build_dataset(config(tmp_path, half)) for half in ("all", "base", "new")}
    assert sets["base"].classnames + sets["new"].classnames == sets["all"].classnames
    assert len(set(sets["all"].classnames)) == 36
    for half in ("base", "new"):
        genera = [name.split()[1] for name in sets[half].classnames]
        assert {genus: genera.count(genus) for genus in genera} == dict.fromkeys(genera, 3)
        assert len(set(genera)) == 6
        assert (len(sets[half].train_x), len(sets[half].val), len(sets[half].test)) == (36, 18, 18)


def test_shots_are_drawn_as_for_any_other_dataset(tmp_path, few_images):
    first = build_dataset(config(tmp_path, "base", shots=1))
    again = build_dataset(config(tmp_path, "base", shots=1))
    assert [item.impath for item in first.train_x] == [item.impath for item in again.train_x]
    assert len(first.train_x) == 18
    assert (tmp_path / "critters/split_fewshot/shot_1-seed_1.pkl").exists()


def test_the_data_folder_is_created(tmp_path, few_images):
    build_dataset(config(tmp_path / "not/yet"))
    assert (tmp_path / "not/yet/critters/split_critters.json").exists()


def test_data_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Critters cannot be created there"):
        build_dataset(config(tmp_path / "file" / "data"))


def test_default_plan():
    plan, counts = Critters.plan, Critters.counts
    assert plan.species == downstream_species(0)
    assert plan.shift in SHIFTS
    assert counts is not None
    per_split = (36 * plan.train, 36 * plan.val, 36 * plan.test)
    assert (counts.train, counts.val, counts.test) == per_split
