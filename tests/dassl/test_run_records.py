"""run.json, the folder lock, and the selection rule in result.json."""

import json
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from dassl.config import get_cfg_default
from dassl.engine import run_records
from dassl.engine.run_records import write_result
from dassl.utils import UsageError

TESTED = {"split": "test", "accuracy": 50.0, "error_rate": 50.0, "macro_f1": 50.0}
TRAINER = SimpleNamespace(
    last_test=TESTED,
    evaluator=SimpleNamespace(total=2, correct=1),
    dm=SimpleNamespace(dataset=None),
    device="cpu",
    test_loader=None,
    get_model_names=lambda: ["prompt_learner"],
)


def evaluate(folder: Path, epoch: int | None, record: object = None) -> tuple[str, int | None]:
    """Return the selection rule and epoch of a test (MAX_EPOCH 50) of a model with a record."""
    (folder / "model").mkdir()
    if record is not None:
        (folder / "model" / "checkpoint.json").write_text(json.dumps(record))
    cfg = get_cfg_default()
    cfg.TRAINER.NAME = "CoOp"
    cfg.OPTIM.MAX_EPOCH = 50
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    cfg.OUTPUT_DIR = str(folder)
    args = Namespace(
        eval_only=True, model_dir=str(folder / "model"), load_epoch=epoch, config_file="a.yaml"
    )
    write_result(TRAINER, cfg, args)
    written = json.loads((folder / "result.json").read_text())
    return written["selection"], written["epoch"]


def training(selection: str, best: int | None = None) -> dict[str, object]:
    """Return the checkpoint.json of a run of 200 epochs."""
    checkpoints = {"model-best.pth.tar": {"epoch": best}} if best else {}
    settings = {"OPTIM.MAX_EPOCH": 200}
    return {"selection": selection, "checkpoints": checkpoints, "settings": settings}


@pytest.mark.parametrize(
    ("epoch", "record", "expected"),
    [
        (None, None, ("best", None)),
        (None, training("best_val", best=7), ("best_val", 7)),
        (None, training("best_test", best=7), ("best_test", 7)),
        (None, training("last_step"), ("best", None)),
        (50, None, ("last_step", 50)),
        (20, None, ("epoch 20", 20)),
        (200, training("last_step"), ("last_step", 200)),
        (50, training("last_step"), ("epoch 50", 50)),
        (7, training("best_val", best=7), ("best_val", 7)),
        (50, training("best_val", best=7), ("epoch 50", 50)),
        (200, training("best_val", best=7), ("last_step", 200)),
    ],
)
def test_training_record_contains_the_selection_rule(
    tmp_path: Path, epoch: int | None, record: object, expected: tuple[str, int | None]
) -> None:
    assert evaluate(tmp_path, epoch, record) == expected


def test_record_with_other_content_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"model/checkpoint\.json' is not valid \(Expected object, got int\)"
    ):
        evaluate(tmp_path, None, 3)


SETTINGS = {"--trainer": "CoOp", "--seed": 1, "--eval-only": False, "--load-epoch": None}


def test_a_run_is_recorded_while_it_runs_and_when_it_ends(tmp_path: Path) -> None:
    assert run_records.read_run_record(tmp_path) == {}
    with run_records.recorded_run(tmp_path, SETTINGS):
        running = run_records.read_run_record(tmp_path)
        assert (running["status"], running["settings"]) == ("running", SETTINGS)
        assert not run_records.is_finished(tmp_path)
    record = run_records.read_run_record(tmp_path)
    assert record["status"] == "finished"
    assert record["seconds"] > 0
    assert run_records.finish_date(tmp_path) == record["finished"]
    with pytest.raises(KeyboardInterrupt), run_records.recorded_run(tmp_path, SETTINGS):
        raise KeyboardInterrupt
    assert run_records.read_run_record(tmp_path) == record, "refused before its checks passed"
    with suppress(KeyboardInterrupt), run_records.recorded_run(tmp_path, SETTINGS) as passed:
        passed({})
        raise KeyboardInterrupt
    assert run_records.read_run_record(tmp_path)["status"] == "failed"
    assert run_records.finish_date(tmp_path) is None


def test_testing_does_not_change_the_training_record_in_the_folder(tmp_path: Path) -> None:
    with run_records.recorded_run(tmp_path, SETTINGS):
        pass
    training = run_records.read_run_record(tmp_path)
    with run_records.recorded_run(tmp_path, {**SETTINGS, "--eval-only": True}, tmp_path):
        pass
    assert run_records.read_run_record(tmp_path) == training
    with run_records.recorded_run(tmp_path / "test", {**SETTINGS, "--eval-only": True}, tmp_path):
        pass
    assert run_records.read_run_record(tmp_path / "test")["model"] == training["finished"]


def test_settings_are_flat_and_exclude_paths_and_speed_options(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("DATASET: {NAME: DTD, ROOT: here}\n")
    (tmp_path / "base.yaml").write_text("OPTIM: {LR: 1e-3, MAX_EPOCH: 50}\n")
    (tmp_path / "toy.yaml").write_text("_BASE_: base.yaml\nOPTIM: {MAX_EPOCH: 10}\n")
    settings = run_records.run_settings(
        [tmp_path / "data.yaml", tmp_path / "toy.yaml"],
        {"--seed": 1, "OPTIM.LR": 0.5, "INPUT.TRANSFORMS": ("a", "b")},
        {"OPTIM.MAX_EPOCH": "7", "DATALOADER.NUM_WORKERS": "0", "OUTPUT_DIR": "there"},
    )
    assert settings == {
        "DATASET.NAME": "DTD",
        "OPTIM.LR": 0.5,
        "OPTIM.MAX_EPOCH": 7,
        "INPUT.TRANSFORMS": ["a", "b"],
        "--seed": 1,
    }


def test_records_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"settings": {"--seed": 1}}')
    assert run_records.read_run_record(tmp_path) == {
        "settings": {"--seed": 1},
        "status": "running",
    }
    (tmp_path / "finished.json").write_text('{"settings": {"--seed": 1}, "finished": "then"}')
    assert run_records.is_finished(tmp_path)
    assert run_records.finish_date(tmp_path) == "then"
    assert tmp_path in run_records.find_run_records(tmp_path.parent)
    with run_records.recorded_run(tmp_path, SETTINGS) as checks_passed:
        checks_passed({})
        assert not run_records.is_finished(tmp_path)


def test_second_run_in_a_locked_folder_raises(tmp_path: Path) -> None:
    with (
        run_records.folder_lock(tmp_path),
        pytest.raises(run_records.FolderInUseError, match="wait until it ends, or choose"),
        run_records.folder_lock(tmp_path),
    ):
        pass
    with run_records.folder_lock(tmp_path):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(FileExistsError, match=r"file'$"),
        run_records.folder_lock(tmp_path / "file"),
    ):
        pass
