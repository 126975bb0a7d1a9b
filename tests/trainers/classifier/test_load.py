"""load: every method, from its run folder alone, computes the trainer's logits."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.utils import UsageError, read_image
from tests.toy import save_toy_clip
from tests.trainers.classifier.runs import METHODS, Runs
from tests.trainers.public_layouts import EPOCH, LAYOUTS
from tests.trainers.toy_runs import CLASS_BOUND, TOY_OPTIONS
from trainers.checkpoints.convert import to_ours
from trainers.classifier import load
from trainers.classifier.shapes import READERS
from trainers.settings import SettingsError

CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.mark.parametrize("method", METHODS)
def test_logits_equal_the_trainers(method: str, runs: Runs, tmp_path: Path) -> None:
    """The data and the teacher are out of reach, as on another machine."""
    trainer = runs.trainer(method)
    shutil.copytree(runs.folder(method), tmp_path / "run")
    for name in ("data", "teacher.pth.tar", "teacher_clip.pt"):
        (runs.world.folder / name).rename(runs.world.folder / f"{name}.away")
    try:
        classifier = load(tmp_path / "run", batch_size=2)
    finally:
        for name in ("data", "teacher.pth.tar", "teacher_clip.pt"):
            (runs.world.folder / f"{name}.away").rename(runs.world.folder / name)
    infer = trainer.inference()
    paths, expected = [], []
    with torch.no_grad():
        for batch in trainer.test_loader:
            paths += batch["impath"]
            expected.append(infer(batch["img"]))
    assert classifier.classnames == trainer.dm.dataset.classnames
    torch.testing.assert_close(classifier.logits(paths), torch.cat(expected), **CLOSE)
    assert not any(p.requires_grad for p in classifier.model.parameters())


@pytest.mark.parametrize("method", [m for m in METHODS if m not in CLASS_BOUND])
def test_other_classes_equal_a_trainer_of_these_classes(method: str, runs: Runs) -> None:
    folder = runs.folder(method)
    trainer = runs.world.build(method, folder, "DATASET.SUBSAMPLE_CLASSES", "new")
    trainer.load_model(str(folder), epoch=2)
    trainer.set_model_mode("eval")
    classifier = load(folder)
    state = torch.random.get_rng_state()
    other = classifier.with_classes(trainer.dm.dataset.classnames)
    assert torch.equal(state, torch.random.get_rng_state())
    with torch.no_grad():
        expected = trainer.inference()(
            torch.stack([other.transform(read_image(p)) for p in runs.images])
        )
    torch.testing.assert_close(other.logits(runs.images), expected, **CLOSE)
    direct = load(folder, classnames=trainer.dm.dataset.classnames)
    torch.testing.assert_close(direct.logits(runs.images), expected, **CLOSE)


@pytest.mark.parametrize("method", CLASS_BOUND)
def test_parameters_of_single_classes_know_their_classes_only(method: str, runs: Runs) -> None:
    folder = runs.folder(method)
    classifier = load(folder)
    for names in (["cat", "dog", "bee"], ["cat"], classifier.classnames[::-1]):
        with pytest.raises(SettingsError, match=f"this {method} learned values for each class"):
            classifier.with_classes(names)
        with pytest.raises(SettingsError, match=f"this {method} learned values for each class"):
            load(folder, classnames=names)


def test_zero_shot_needs_class_names(runs: Runs, tmp_path: Path) -> None:
    cfg = runs.world.cfg("ZeroshotCLIP", tmp_path, "DATASET.SUBSAMPLE_CLASSES", "all")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    with pytest.raises(SettingsError, match="does not record the class names: give them as class"):
        load(tmp_path)
    classifier = load(tmp_path, classnames=runs.world.classnames)
    trainer = runs.world.build("ZeroshotCLIP", tmp_path, "DATASET.SUBSAMPLE_CLASSES", "all")
    images = torch.stack([classifier.transform(read_image(path)) for path in runs.images])
    torch.testing.assert_close(
        classifier.logits(runs.images), trainer.model_inference(images), **CLOSE
    )
    with pytest.raises(SettingsError, match="ZeroshotCLIP has no checkpoints"):
        load(tmp_path, epoch=1, classnames=["a", "b"])


def test_the_selection_rule_chooses_the_checkpoint(runs: Runs, tmp_path: Path) -> None:
    opts = ("TRAIN.CHECKPOINT_FREQ", 1, "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", False)
    opts += ("OPTIM.LR", 0.5)
    folder = runs.folder("CoOp", *opts)
    assert load(folder).epoch is None
    assert "best epoch (best_val)" in load(folder).description
    assert load(folder, epoch=1).epoch == 1
    with pytest.raises(SettingsError, match=r"no checkpoint of epoch 7 \(epochs: 1, 2\)"):
        load(folder, epoch=7)
    last = tmp_path / "last"
    shutil.copytree(folder, last)
    edit(last, selection="last_step")
    assert load(last).epoch == 2
    (last / "prompt_learner" / "model.pth.tar-2").unlink()
    assert load(last).epoch == 1
    edit(last, selection="best_val")
    (last / "prompt_learner" / "model-best.pth.tar").unlink()
    with pytest.raises(SettingsError, match="selects by best_val, but has no model-best"):
        load(last)


def test_an_unfinished_run_is_named(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.folder("CoOp", "TRAIN.CHECKPOINT_FREQ", 1), tmp_path / "run")
    (tmp_path / "run" / "prompt_learner" / "model.pth.tar-2").unlink()
    capsys.readouterr()
    load(tmp_path / "run")
    out, err = capsys.readouterr()
    assert "warning: epoch 1 of 2 is not the model that the run selects" in err
    assert "Initial context" not in out + err
    load(tmp_path / "run", verbose=True)
    assert "Initial context" in capsys.readouterr().err


def test_without_recorded_transform_the_clips_own_is_used(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.folder("TextRefinerCoOp"), tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    record = json.loads((tmp_path / "run" / "checkpoint.json").read_text())
    settings = {k: v for k, v in record["settings"].items() if not k.startswith("INPUT.")}
    edit(tmp_path / "run", settings=settings)
    classifier = load(tmp_path / "run")
    assert "does not record INPUT.SIZE: the image transform of" in capsys.readouterr().err
    own = clip.load(runs.world.clip, device="cpu")[1]
    image = read_image(runs.images[0])
    torch.testing.assert_close(classifier.transform(image), own(image))


# The shapes tell how many blocks have tokens, but not which.
NOT_IN_SHAPES = {"TRAINER.MMRL.REP_LAYERS": TOY_OPTIONS["MMRL"]["REP_LAYERS"]}
NOT_IN_SHAPES |= {"TRAINER.ATPROMPT.ATTRIBUTES": ["color", "shape"]}
NOT_IN_SHAPES |= {"TRAINER.TCP.LAYER": TOY_OPTIONS["TCP"]["LAYER"]}


@pytest.mark.parametrize("method", [m for m in METHODS if m.removeprefix("TextRefiner") in READERS])
def test_shapes_replace_missing_settings(method: str, runs: Runs, tmp_path: Path) -> None:
    """A converted public folder records no sizes of prompts and caches."""
    opts = ("TRAINER.COOP.N_CTX", 3, "TRAINER.COCOOP.N_CTX", 3, "TRAINER.TEXTREFINER.CACHE_SIZE", 7)
    opts += ("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", 2, "TRAINER.MAPLE.PROMPT_DEPTH", 2)
    trainer = runs.trainer(method, *opts)
    shutil.copytree(runs.folder(method, *opts), tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    edit(tmp_path / "run", settings={"TRAINER.NAME": method, **NOT_IN_SHAPES})
    classifier = load(tmp_path / "run")
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = trainer.inference()(image)
    torch.testing.assert_close(classifier.logits(image), expected, **CLOSE)


INPUTS = {
    "INPUT.SIZE": [32, 32],
    "INPUT.INTERPOLATION": "bicubic",
    "INPUT.TRANSFORMS": ["normalize"],
    "INPUT.PIXEL_MEAN": [0.5, 0.5, 0.5],
    "INPUT.PIXEL_STD": [0.25, 0.25, 0.25],
}


def edit(folder: Path, **changes: object) -> None:
    """Change fields of a folder's checkpoint.json; None removes a field."""
    path = folder / "checkpoint.json"
    record = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": None}, "does not record the class names: give them as classnames"),
        ({"backbone": None}, "does not record the backbone: give it as backbone"),
        ({"method": "Other"}, "the method of the run must be one of .*, got 'Other'"),
        ({"method": 3}, r"checkpoint.json is damaged \(its method have another"),
        ({"settings": {"TRAINER.COOP.NEW": 1}}, "has the setting TRAINER.COOP.NEW, which this"),
        ({"settings": {"TRAINER.COOP.N_CTX": "4"}}, "has '4' as TRAINER.COOP.N_CTX, expected"),
        ({"settings": {"INPUT.NO_TRANSFORM": True}}, "INPUT.NO_TRANSFORM True"),
        ({"settings": {"INPUT.SIZE": [64]}}, r"INPUT of the run in .* is not valid \(Expected"),
        (
            {"settings": {"INPUT.PIXEL_STD": [0, 1, 1]}},
            r"INPUT of the run .* \(Expected float",
        ),
        ({"settings": {"INPUT.INTERPOLATION": "cubic"}}, "INPUT.INTERPOLATION is 'cubic'"),
        ({"tensors": {"prompt_learner": {}}}, "are not those of CoOp"),
        ({"tensors": {"prompt_learner": {"ctx": "x"}}}, "are not those of CoOp"),
    ],
)
def test_a_record_that_cannot_be_used(
    changes: dict, message: str, runs: Runs, tmp_path: Path
) -> None:
    shutil.copytree(runs.folder("CoOp"), tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    if "settings" in changes:
        changes = {"settings": {**INPUTS, **changes["settings"]}}
    edit(tmp_path / "run", **changes)
    with pytest.raises((SettingsError, UsageError), match=message):
        load(tmp_path / "run")


def test_folders_and_arguments_that_cannot_be_used(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"has no checkpoint\.json with a method: give"):
        load(tmp_path)
    folder = runs.folder("CoOp")
    other = str(save_toy_clip(tmp_path / "other.pt", seed=5))
    with pytest.raises(SettingsError, match=f"but backbone is {other}: set backbone to"):
        load(folder, backbone=other)
    with pytest.raises(SettingsError, match="images are 32x32, but the backbone takes 64x64"):
        load(folder, backbone="critters-vit-t")
    with pytest.raises(SettingsError, match="device 'quantum' cannot be used"):
        load(folder, device="quantum")
    with pytest.raises(SettingsError, match="batch_size must be at least 1, got 0"):
        load(folder, batch_size=0)
    with pytest.raises(SettingsError, match="precision must be one of fp32, amp, bf16, fp16"):
        load(folder, precision="fp8")
    with pytest.raises(SettingsError, match=r"settings has OPTIM\.LR, which does not change"):
        load(folder, settings={"OPTIM.LR": 1.0})
    with pytest.raises(SettingsError, match=r"settings has the setting TRAINER\.COOP\.CTX, which"):
        load(folder, settings={"TRAINER.COOP.CTX": 1})
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    with pytest.raises(SettingsError, match=r"config\.yaml is not valid"):
        load(tmp_path / "run")
    (tmp_path / "run" / "config.yaml").unlink()
    shutil.rmtree(tmp_path / "run" / "prompt_learner")
    with pytest.raises(SettingsError, match="has no checkpoint of prompt_learner"):
        load(tmp_path / "run")


def test_half_precision_is_close(runs: Runs) -> None:
    folder = runs.folder("TextRefinerCoOp")
    full, half = load(folder), load(folder, precision="bf16")
    assert half.precision == "bf16"
    images = runs.images
    assert not torch.equal(full.logits(images), half.logits(images))
    torch.testing.assert_close(full.scores(images), half.scores(images), rtol=0, atol=0.1)


def test_a_trainer_of_other_code_is_refused(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.folder("CoOp"), tmp_path / "run")
    edit(tmp_path / "run", method="Foreign")
    TRAINER_REGISTRY.register(force=True)(type("Foreign", (TrainerX,), {}))
    with pytest.raises(SettingsError, match="Foreign is a trainer of other code"):
        load(tmp_path / "run")


@pytest.mark.parametrize("method", LAYOUTS)
def test_a_converted_public_folder(method: str, runs: Runs, tmp_path: Path) -> None:
    """It lacks settings and, except for the release's CoOp, class names."""
    trainer = runs.world.build(method, tmp_path / "theirs")
    LAYOUTS[method](tmp_path / "public", trainer)
    to_ours(tmp_path / "public", tmp_path / "ours", runs.world.clip)
    trainer.load_model(str(tmp_path / "ours"), epoch=EPOCH)
    trainer.set_model_mode("eval")
    teacher = {"TEACHER_NAME": runs.world.teacher_clip, "TEACHER_WEIGHTS": runs.world.teacher}
    settings = {f"TRAINER.PROMPTKD.{key}": value for key, value in teacher.items()}
    settings |= NOT_IN_SHAPES
    names = trainer.dm.dataset.classnames
    classifier = load(tmp_path / "ours", classnames=names, settings=settings)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = trainer.inference()(image)
    torch.testing.assert_close(classifier.logits(image), expected, **CLOSE)
    if method.endswith("PromptKD"):
        with pytest.raises(SettingsError, match="there is no teacher at teacher_model"):
            load(tmp_path / "ours", classnames=names)


def test_the_authors_own_checkpoint(release_run: Path, tmp_path: Path) -> None:
    to_ours(release_run / "release_run", tmp_path / "ours", str(release_run / "clip_tiny.pt"))
    classifier = load(tmp_path / "ours")
    assert len(classifier.classnames) == 5
    assert classifier.text_features.shape[0] == 5


def test_a_config_replaces_a_missing_record(runs: Runs, tmp_path: Path) -> None:
    """Nothing records the class names and the CLIP's fingerprint then."""
    shutil.copytree(runs.folder("TextRefinerMaPLe"), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.json").unlink()
    with pytest.raises(SettingsError, match="does not record the class names"):
        load(tmp_path / "run")
    names = load(runs.folder("TextRefinerMaPLe")).classnames
    classifier = load(tmp_path / "run", classnames=names)
    image = torch.randn(2, 3, 32, 32)
    expected = load(runs.folder("TextRefinerMaPLe")).logits(image)
    torch.testing.assert_close(classifier.logits(image), expected)
