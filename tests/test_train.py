"""The command line: flags, exit codes, error messages and output files."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import train
from dassl.engine import run_records
from tests.toy_command import console, short_run, swap
from tests.trainers.toy_runs import ToyWorld

__all__ = ["console"]  # a fixture, used by every test here


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture
def command(world, tmp_path):
    """Return the arguments of a short run; KEY VALUE pairs may follow."""
    return short_run(world, tmp_path)


FRONT = ["TRAINER.COOP.CLASS_TOKEN_POSITION", "front"]
SHOTS = ["DATASET.NUM_SHOTS", "4", "DATASET.SUBSAMPLE_CLASSES", "base"]


def test_train_then_evaluate_the_new_classes(command, tmp_path, capsys):
    assert train.main([*command, *SHOTS]) == 0
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log in capsys.readouterr().out
    for line in ("Seed: 1", "torch: ", "Device: cpu", "Precision: fp32", "=> result", "* total: "):
        assert line in log
    assert "Selection rule: last_step (epoch 2 of 2)" in log
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["selection"] == "last_step"
    assert record["accuracy"] == pytest.approx(100 * record["correct"] / record["total"])
    assert record["settings"]["TRAINER.TEXTREFINER"]["CACHE_SIZE"] == 25
    assert list((tmp_path / "out" / "tensorboard").iterdir())

    new = [*command, "--eval-only", "--model-dir", str(tmp_path / "out"), "--load-epoch", "2"]
    new[new.index("--output-dir") + 1] = str(tmp_path / "new")
    assert train.main([*new, *SHOTS[:-1], "new"]) == 0
    record = json.loads((tmp_path / "new" / "result.json").read_text())
    assert (record["classes"], record["source"], record["epoch"]) == ("new", "Caltech101", 2)


def test_more_shots_than_images_are_a_warning_in_log_and_result(command, tmp_path):
    assert train.main([*command, "DATASET.NUM_SHOTS", "16"]) == 0
    warning = "DATASET.NUM_SHOTS is 16, but 6 of 6 classes have fewer training images"
    assert f"warning: {warning}" in (tmp_path / "out" / "log.txt").read_text()
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert record["warnings"][0].startswith(warning)


@pytest.mark.parametrize("permitted", [False, True])
def test_best_val_is_recorded_by_training_and_by_a_later_test(command, tmp_path, permitted):
    # SELECT_ON_TEST has no effect if there are validation images.
    best = ["TEST.FINAL_MODEL", "best_val", "TEST.SELECT_ON_TEST", str(permitted)]
    assert train.main([*command, *SHOTS, *best]) == 0
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (record["selection"], record["epoch"] in (1, 2)) == ("best_val", True)
    later = swap(command, "--output-dir", tmp_path / "later")
    later += ["--eval-only", "--model-dir", str(tmp_path / "out")]
    assert train.main([*later, *SHOTS]) == 0
    again = json.loads((tmp_path / "later" / "result.json").read_text())
    assert (again["selection"], again["epoch"]) == ("best_val", record["epoch"])
    assert again["accuracy"] == record["accuracy"]


def test_release_flags_are_mapped_and_logged(command, capsys):
    flags = ["--loss-factor", "40", "--distill-factor", "0", "--memory-size", "7", "--alpha", "0.3"]
    assert train.main([*command, *flags, "--no-train", *SHOTS, "TRAINER.TF.ALPHA", "0"]) == 0
    out = capsys.readouterr().out
    assert "TRAINER.TF.MEMORY_SIZE 7 sets TRAINER.TEXTREFINER.CACHE_SIZE 7" in out
    assert (
        "RefinerSettings(cache_size=7, momentum=0.8, alpha=0.0, topk=5, local_weight=0.025, "
        "reg_weight=0.0," in out
    )


def test_release_alias_is_registered(command, capsys):
    command[command.index("TextRefinerCoOp")] = "TextRefiner"
    assert train.main([*command, "--no-train", *SHOTS]) == 0
    assert "Loading trainer: TextRefiner\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "extra", "sentence"),
    [
        (("--trainer", "TextRefinerCop"), [], "did you mean 'TextRefinerCoOp'"),
        (("--config-file", "configs/trainers/CoOp/vit_b61.yaml"), [], "did you mean 'vit_b16'"),
        (("--root", "/nowhere"), [], "/nowhere"),
        (None, ["TRAINER.TEXTREFINER.CACHE_SIZ", "3"], "CACHE_SIZE"),
        (None, ["TRAINER.TEXTREFINER.CACHE_SIZE", "many"], "must be an integer"),
        (None, ["TRAINER.TEXTREFINER.CACHE_SIZE"], "KEY VALUE pairs"),
        (None, ["DATASET.SUBSAMPLE_CLASSES", "old"], "old"),
        (None, ["MODEL.BACKBONE.NAME", "ViT-B/61"], "ViT-B/16"),
        (None, ["TRAINER.TEXTREFINER.TOPK", "99"], "the backbone has 16 patches"),
        (None, ["INPUT.SIZE", "(64,64)"], "set INPUT.SIZE to (32, 32)"),
        (None, ["INPUT.TRANSFORMS", "('random_flop',)"], "random_flip"),
        (None, ["TEST.FINAL_MODEL", "best"], "best_val"),
        (None, ["OPTIM.NAME", "sdg"], "sgd"),
        (None, ["TRAINER.TF.MEMORY_SIZE", "2.5"], "must be a whole number"),
        (None, ["TRAINER.COOP.CTX_INIT", "an xylophonist", *FRONT], "every word must be one token"),
    ],
)
def test_invalid_setting_exits_with_2_and_one_sentence(command, capsys, change, extra, sentence):
    command = swap(command, *change) if change else command
    assert train.main([*command, *SHOTS, *extra]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert sentence in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--model-dir", "somewhere"], "is read with --eval-only only"),
        (["--eval-only", "--load-epoch", "3"], "needs the folder to load as --model-dir"),
        (["--target-domains", "b"], "--target-domains has taken DATASET.NUM_SHOTS"),
    ],
)
def test_ignored_flag_is_rejected(command, capsys, flags, sentence):
    assert train.main([*command, *flags, *SHOTS]) == 2
    assert sentence in capsys.readouterr().err


def test_resuming_with_other_settings_is_refused(command, tmp_path, capsys):
    assert train.main([*command, *SHOTS, "TEST.NO_TEST", "True"]) == 0
    other = ["TRAINER.TEXTREFINER.ALPHA", "0.9"]
    assert train.main([*command, *SHOTS, *other]) == 2
    assert "TRAINER.TEXTREFINER.ALPHA was 0.2, now is 0.9" in capsys.readouterr().err
    assert train.main([*command, *SHOTS, "OPTIM.MAX_EPOCH", "3"]) == 0, "longer is allowed"
    assert "Resumed" in capsys.readouterr().out
    later = swap(command, "--output-dir", tmp_path / "later")
    later += ["--eval-only", "--model-dir", str(tmp_path / "out"), "--load-epoch", "3"]
    assert train.main([*later, *SHOTS, *other]) == 0
    assert "warning: the model in" in capsys.readouterr().out


def test_checkpoint_record_describes_the_checkpoints(command, world, tmp_path):
    best = ["TEST.FINAL_MODEL", "best_val", "TRAIN.CHECKPOINT_FREQ", "1"]
    assert train.main([*command, *SHOTS, *best]) == 0
    record = json.loads((tmp_path / "out" / "checkpoint.json").read_text())
    assert (record["method"], record["backbone"]) == ("TextRefinerCoOp", world.clip)
    assert record["classes"] == [name.replace("_", " ") for name in world.classnames[:3]]
    assert record["selection"] == "best_val"
    epochs = {file: entry["epoch"] for file, entry in record["checkpoints"].items()}
    saved = epochs.pop("model-best.pth.tar")
    assert epochs == {"model.pth.tar-1": 1, "model.pth.tar-2": 2}
    file = tmp_path / "out" / "prompt_learner" / "model-best.pth.tar"
    assert saved == torch.load(file, weights_only=False)["epoch"]
    assert record["tensors"]["prompt_learner"] == {"ctx": "16 x 64"}
    assert record["tensors"]["Memory"]["cache.entries"] == "25 x 32"
    assert record["settings"]["TRAINER.TEXTREFINER.ALPHA"] == 0.2
    assert record["versions"]["torch"] == version("torch")
    assert record["trained_parameters"] > 16 * 64
    # Deleted files are not listed.
    (tmp_path / "out" / "Memory" / "model.pth.tar-1").unlink()
    assert train.main([*command, *SHOTS, *best, "OPTIM.MAX_EPOCH", "3"]) == 0
    record = json.loads((tmp_path / "out" / "checkpoint.json").read_text())
    assert sorted(record["checkpoints"]) == [
        "model-best.pth.tar",
        "model.pth.tar-2",
        "model.pth.tar-3",
    ]


def test_result_of_an_earlier_run_is_removed(command, tmp_path, monkeypatch):
    assert train.main([*command, *SHOTS]) == 0
    assert (tmp_path / "out" / "result.json").is_file()
    assert train.main([*command, *SHOTS, "OPTIM.MAX_EPOCH", "3", "TEST.NO_TEST", "True"]) == 0
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    "refused",
    [["TRAINER.TEXTREFINER.ALPHA", "0.9"], ["MODEL.BACKBONE.NAME", "no-such-model"]],
)
def test_refused_command_does_not_change_the_finished_run(command, tmp_path, refused):
    assert train.main([*command, *SHOTS]) == 0
    files = [tmp_path / "out" / name for name in ("run.json", "result.json", "checkpoint.json")]
    before = [file.read_bytes() for file in files]
    assert train.main([*command, *SHOTS, *refused]) == 2
    test = [*command, "--eval-only", "--model-dir", str(tmp_path / "out"), "--load-epoch", "99"]
    assert train.main([*test, *SHOTS]) == 2
    assert [file.read_bytes() for file in files] == before


def test_folder_name_may_be_a_number(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path(train.__file__).parent
    command = swap(command, "--dataset-config-file", root / "configs/datasets/caltech101.yaml")
    assert train.main([*swap(command, "--output-dir", "2024"), "--no-train", *SHOTS]) == 0
    assert (tmp_path / "2024" / "log.txt").is_file()


def test_plain_trainer_logs_unused_refiner_settings(command, capsys):
    plain = swap(command, "--trainer", "CoOp")
    assert train.main([*plain, "--alpha", "0.7", "--no-train", *SHOTS]) == 0
    assert "CoOp has no refiner and reads none of these" in capsys.readouterr().out


def test_evaluating_a_folder_without_a_model_fails(command, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert (
        train.main([*command, "--eval-only", "--model-dir", str(tmp_path / "empty"), *SHOTS]) == 2
    )
    assert "contains checkpoints of nothing" in capsys.readouterr().err


def test_non_finite_loss_stops_with_a_remedy(command, world, tmp_path, capsys):
    weights = torch.load(world.clip)
    weights["text_projection"] *= float("nan")
    torch.save(weights, tmp_path / "nan.pt")
    assert train.main([*command, *SHOTS, "MODEL.BACKBONE.NAME", str(tmp_path / "nan.pt")]) == 2
    assert "nan" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", "2"])
def test_unreadable_image_is_reported_in_one_sentence(command, world, tmp_path, capsys, workers):
    shutil.copytree(world.folder / "data", tmp_path / "data")
    for image in (tmp_path / "data").rglob("*.jpg"):
        image.write_bytes(b"not an image")
    command = swap(command, "--root", tmp_path / "data")
    assert train.main([*command, *SHOTS, "DATALOADER.NUM_WORKERS", workers]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: cannot read the image")
    assert error.count("\n") == 1


def test_interrupt_prints_no_traceback(command, monkeypatch, capsys):
    def interrupt(cfg):
        raise KeyboardInterrupt

    monkeypatch.setattr("dassl.engine.build_trainer", interrupt)
    assert train.main([*command, *SHOTS]) == 130
    assert "resumes from the last checkpoint" in capsys.readouterr().err


def test_run_is_recorded_with_its_settings(command, tmp_path):
    flags = ["--backbone", command[command.index("--config-file") + 1].replace("toy.yaml", "x")]
    assert train.main([*command, *flags, *SHOTS]) == 2  # no such CLIP
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "failed"
    assert record["settings"]["MODEL.BACKBONE.NAME"] == flags[1]
    assert train.main([*command, *SHOTS, "DATALOADER.NUM_WORKERS", "0"]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["status"], record["model"]) == ("finished", None)
    assert record["settings"]["--trainer"] == "TextRefinerCoOp"
    assert record["settings"]["OPTIM.MAX_EPOCH"] == 2
    assert record["settings"]["DATASET.NUM_SHOTS"] == 4
    assert "DATALOADER.NUM_WORKERS" not in record["settings"]
    test = swap(command, "--output-dir", tmp_path / "test")
    test += ["--eval-only", "--model-dir", str(tmp_path / "out"), "--load-epoch", "2"]
    assert train.main([*test, *SHOTS]) == 0
    tested = json.loads((tmp_path / "test" / "run.json").read_text())
    assert tested["model"] == record["finished"]


def test_run_without_training_is_not_recorded(command, tmp_path):
    assert train.main([*command, "--no-train", *SHOTS]) == 0
    assert not (tmp_path / "out" / "run.json").exists()


def test_second_run_in_a_folder_exits_with_75(command, tmp_path, capsys):
    with run_records.folder_lock(tmp_path / "out"):
        assert train.main([*command, *SHOTS]) == 75
    error = capsys.readouterr().err
    assert error.startswith(f"error: another run is using '{tmp_path}/out': wait until it ends")
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "log.txt").exists()
