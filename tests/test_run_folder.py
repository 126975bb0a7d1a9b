"""What train.py writes into an output folder, and what it leaves alone when it refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import train
from dassl.engine.run_records import RESULT
from tests.toy_command import console, own_console, short_run, swap
from tests.trainers.toy_runs import ToyWorld

__all__ = ["console"]  # a fixture, used by every test here

SHOTS = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(world: ToyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run; its output is in out/, its data in data/."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(world.folder / "data", folder / "data")
    with own_console():
        assert train.main(command(world, folder)) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def command(world: ToyWorld, folder: Path, *more: str) -> list[str]:
    """Return the command of the run in ``folder``; ``more`` are flags."""
    argv = swap(short_run(world, folder), "--root", folder / "data")
    return [*argv, *more, *SHOTS]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of an output folder but for the lock, by name."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "running.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def rename_class(folder: Path) -> None:
    """Rename the first class of the data in ``folder``, and sample its images again."""
    (split,) = folder.glob("data/*/split_*.json")
    content = json.loads(split.read_text())
    name = min(entry[2] for entry in content["train"] if entry[1] == 0)
    renamed = [
        {part: [[p, n, "other name" if c == name else c] for p, n, c in content[part]]}
        for part in content
    ]
    split.write_text(json.dumps({key: value for part in renamed for key, value in part.items()}))
    for path in folder.glob("data/*/split_fewshot/*"):
        path.unlink()


def test_records_name_everything_that_decides_the_number(world: ToyWorld, trained: Path) -> None:
    out = trained / "out"
    for name in ("run.json", "checkpoint.json", "result.json"):
        record = read(out / name)
        assert record["data"]["classes"] == world.classnames[:3], name
        assert record["data"]["train"]["images"] == 12
        assert len(record["data"]["test"]["sha256"]) == 64
        assert record["data"]["all_classes"] == world.classnames
        assert set(record["clip"]) == {"positional_embedding", "text_projection"}
        assert record["versions"]["torch"]
        assert "commit" in record
    assert all("INPUT.PIXEL" in line or "PREC" in line for line in read(out / RESULT)["warnings"])
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["OPTIM"]["MAX_EPOCH"] == 2
    assert config["DATASET"]["NUM_SHOTS"] == 4


@pytest.mark.parametrize(
    ("flags", "pairs"),
    [
        (["--eval-only", "--load-epoch", "99"], []),
        ([], ["OPTIM.LR", "0.5"]),
        ([], ["TEST.FINAL_MODEL", "best"]),
        ([], ["MODEL.BACKBONE.NAME", "nothing.pt"]),
    ],
    ids=["missing epoch", "other settings", "wrong choice", "no weights"],
)
def test_refused_command_leaves_a_finished_run_alone(
    world: ToyWorld, run: Path, flags: list[str], pairs: list[str]
) -> None:
    before = contents(run / "out")
    if "--eval-only" in flags:
        flags = [*flags, "--model-dir", str(run / "out")]
    assert train.main([*command(world, run, *flags), *pairs]) == 2
    assert contents(run / "out") == before


def test_damaged_checkpoint_leaves_the_result_alone(world: ToyWorld, run: Path) -> None:
    """Resuming is a check, and comes before the result of the earlier run is replaced."""
    newest = run / "out" / "Memory" / "model.pth.tar-2"
    newest.write_bytes(newest.read_bytes()[:1000])
    before = contents(run / "out")
    assert train.main(command(world, run)) == 2
    assert contents(run / "out") == before


def test_earlier_result_and_log_are_replaced_by_a_new_run(world: ToyWorld, run: Path) -> None:
    old = contents(run / "out")
    assert train.main(command(world, run)) == 0
    new = contents(run / "out")
    assert read(run / "out" / RESULT)["accuracy"] == json.loads(old[RESULT])["accuracy"]
    (moved,) = (name for name in new if name.startswith("log.txt-"))
    assert new[moved] == old["log.txt"]
    assert "result-earlier.json" not in new


def test_test_without_an_epoch_reads_what_the_record_selected(
    world: ToyWorld, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_to = read(run / "out" / RESULT)["accuracy"]
    argv = swap(command(world, run), "--output-dir", run / "test")
    assert train.main([*argv[:-4], "--eval-only", "--model-dir", str(run / "out"), *SHOTS]) == 0
    assert "selects the last epoch: 2" in capsys.readouterr().out
    result = read(run / "test" / RESULT)
    assert (result["selection"], result["epoch"]) == ("last_step", 2)
    assert result["accuracy"] == trained_to
    assert result["model_data"] == read(run / "out" / "checkpoint.json")["data"]


def test_other_class_names_are_not_resumed(
    world: ToyWorld, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rename_class(run)
    before = contents(run / "out")
    assert train.main(command(world, run)) == 2
    assert "class 0 was" in (error := capsys.readouterr().err)
    assert "now is 'other name'" in error
    assert contents(run / "out") == before


def test_test_with_other_class_names_warns_in_log_and_result(
    world: ToyWorld, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rename_class(run)
    argv = swap(command(world, run, "--eval-only"), "--output-dir", run / "test")
    assert train.main([*argv[:-4], "--model-dir", str(run / "out"), *SHOTS]) == 0
    assert "now is 'other name'" in capsys.readouterr().out
    assert any("now is 'other name'" in line for line in read(run / "test" / RESULT)["warnings"])


def test_files_of_killed_processes_are_removed(world: ToyWorld, run: Path) -> None:
    left = [run / "out" / ".run-1.tmp.json", run / "out" / "Memory" / ".model.pth-99.tmp.tar-2"]
    own = run / "out" / ".notes.txt"
    for path in (*left, own):
        path.touch()
    assert train.main(command(world, run)) == 0
    assert [path.exists() for path in left] == [False, False]
    assert own.exists()
