"""DATASET.DISTILL_ON: training and test images for training without labels."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from tests.trainers.toy_runs import ToyWorld
from trainers.settings import SettingsError

ROOT = Path(__file__).parents[2]
ALL = ("DATASET.DISTILL_ON", "all", "DATASET.SUBSAMPLE_CLASSES", "all")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def dataset(world, *opts):
    return build_dataset(world.cfg("PromptKD", world.folder / "out", *opts))


def by_class(items):
    return sorted({(item.label, item.classname) for item in items})


@pytest.mark.parametrize(("shots", "images"), [(0, 6 * 8), (4, 6 * 4)])
def test_base2novel(world, shots, images):
    data = dataset(world, *ALL, "DATASET.NUM_SHOTS", shots)
    assert len(data.train_x) == images
    assert data.num_classes == 6
    names = list(enumerate(data.classnames))
    assert by_class(data.val) == names[:3]
    assert by_class(data.test) == names[3:]
    assert len(data.val) + len(data.test) == 6 * 4, "both are the test split"
    assert data.class_groups == {"val": ("base", [0, 1, 2]), "test": ("new", [3, 4, 5])}


def test_cross(world):
    data = dataset(world, *ALL, "TRAINER.MODAL", "cross")
    assert [item.impath for item in data.val] == [item.impath for item in data.test]
    assert by_class(data.test) == list(enumerate(data.classnames))


def test_few_shot_has_the_images_of_labeled_training(world):
    chosen = dataset(world, "DATASET.DISTILL_ON", "few_shot")
    labeled = build_dataset(world.cfg("CoOp", world.folder / "out"))
    for part in ("train_x", "val", "test"):
        images = [[item.impath for item in getattr(d, part)] for d in (chosen, labeled)]
        assert images[0] == images[1]
    assert not chosen.class_groups


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("DATASET.DISTILL_ON", "al"), "DISTILL_ON is 'al'.*'all'"),
        (("DATASET.DISTILL_ON", "all"), "SUBSAMPLE_CLASSES is base: set it to all"),
        ((*ALL, "TRAINER.MODAL", "crass"), "MODAL is 'crass'.*'cross'"),
    ],
)
def test_invalid_choices(world, opts, message):
    with pytest.raises(UsageError, match=message):
        dataset(world, *opts)


def test_choice_is_made_by_name_and_only_where_it_matters(world, tmp_path):
    with pytest.raises(SettingsError, match=r"set DATASET.DISTILL_ON to all"):
        world.build("PromptKD", tmp_path, "DATASET.DISTILL_ON", "")
    for trainer in ("CoOp", "PromptSRC", "ZeroshotCLIP"):
        with pytest.raises(SettingsError, match=f"without labels, which {trainer} is not"):
            world.build(trainer, tmp_path, *ALL)


def test_each_split_is_tested_on_its_own_classes(world, tmp_path):
    trainer = world.build("TextRefinerPromptKD", tmp_path, *ALL)
    seen, original = {}, trainer.evaluator.process

    def process(logits, label):
        seen.setdefault(split, []).append((logits.isfinite(), label))
        original(logits, label)

    trainer.evaluator.process = process
    for split in ("val", "test"):
        trainer.test(split)
    for split, classes in (("val", [0, 1, 2]), ("test", [3, 4, 5])):
        for compared, label in seen[split]:
            assert (compared == torch.isin(torch.arange(6), torch.tensor(classes))).all()
            assert set(label.tolist()) <= set(classes)
    assert trainer.model_inference(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_selection_on_test_images_must_be_explicit(world, tmp_path):
    options = (*ALL, "TEST.FINAL_MODEL", "best_val", "TEST.NO_TEST", False)
    with pytest.raises(UsageError, match="takes its val images from the test split"):
        world.trained("PromptKD", tmp_path / "refused", *options)
    world.trained("PromptKD", tmp_path / "allowed", *options, "TEST.SELECT_ON_TEST", True)


def test_log_and_record_name_the_protocol(world, tmp_path):
    cfg = world.cfg("PromptKD", tmp_path, *ALL, "OPTIM.MAX_EPOCH", 1, "TEST.NO_TEST", False)
    (tmp_path / "run.yaml").write_text(cfg.dump())
    command = ["train.py", "--config-file", str(tmp_path / "run.yaml")]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "DATASET.DISTILL_ON all: 24 unlabeled images of all classes" in done.stdout
    record = json.loads((tmp_path / "result.json").read_text())
    assert (record["classes"], record["split"]) == ("new", "test")
    assert record["settings"]["DATASET"] == {"DISTILL_ON": "all"}
    assert record["settings"]["TRAINER"] == {"MODAL": "base2novel"}
