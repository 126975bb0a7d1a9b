"""Critters' variants and CrittersFar: classes, images and counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import datasets  # noqa: F401  (registers the datasets)
from assets.critters.choose_shift import choose
from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from datasets.critters import (
    Critters,
    CrittersBlurry,
    CrittersDark,
    CrittersFar,
    CrittersPainting,
    CrittersSketch,
)
from datasets.critters_world import LOOKS, SHIFTS, SPECIES, STYLES

ROOT = Path(__file__).parents[2]
STYLED = {
    "sketch": CrittersSketch,
    "painting": CrittersPainting,
    "dark": CrittersDark,
    "blurry": CrittersBlurry,
}


def names(plan) -> list[str]:
    return [plan.classname(label) for label in range(len(plan.species))]


def build(name: str, root: Path, **settings):
    cfg = get_cfg_default()
    cfg.merge_from_file(str(ROOT / f"configs/datasets/{name}.yaml"))
    cfg.DATASET.ROOT = str(root)
    for key, value in {"SUBSAMPLE_CLASSES": "all", **settings}.items():
        cfg.DATASET[key] = value
    cfg.SEED = 1
    return build_dataset(cfg)


@pytest.fixture
def few_images(monkeypatch):
    """Reduce the datasets to one test image per class."""
    for styled in STYLED.values():
        monkeypatch.setattr(styled, "plan", replace(styled.plan, test=1))
        monkeypatch.setattr(styled, "counts", None)


@pytest.mark.parametrize("dataset", [*STYLED.values(), CrittersFar], ids=lambda d: d.__name__)
def test_declared_counts_match_the_plan(dataset):
    plan, counts = dataset.plan, dataset.counts
    classes = len(plan.species)
    images = {part: classes * getattr(plan, part) or None for part in ("train", "val", "test")}
    assert counts.classes == classes
    assert {part: getattr(counts, part) for part in images} == images


@pytest.mark.parametrize("style", STYLED)
def test_variant_contains_critters_species_in_its_style_and_their_colors(style):
    plan, look = STYLED[style].plan, LOOKS[STYLED[style].plan.shift]
    shift = SHIFTS[Critters.plan.shift]
    assert look == replace(STYLES[style], hue_shift=shift.hue_shift)
    assert look.hue_share == shift.hue_share
    assert set(plan.species) <= set(Critters.plan.species)


def test_every_dataset_has_its_own_folder_and_individuals():
    everyone = [Critters, CrittersFar, *STYLED.values()]
    assert len({dataset.dataset_dir for dataset in everyone}) == len(everyone)
    same_species = [Critters, *STYLED.values()]
    assert len({dataset.plan.seed for dataset in same_species}) == len(same_species)


def test_dark_variant_contains_three_species_of_each_genus():
    kept = names(CrittersDark.plan)
    assert kept == [name for name in names(Critters.plan) if name in set(kept)]
    genera = [name.split()[1] for name in kept]
    assert sorted(genera.count(genus) for genus in set(genera)) == [3] * 6


@pytest.mark.parametrize("style", STYLED)
def test_a_variant_is_a_test_set_with_accuracy_over_its_own_classes(style, tmp_path, few_images):
    dataset = build(f"critters_{style}", tmp_path, NUM_SHOTS=16)  # shots do not apply
    assert dataset.num_classes == len(dataset.classnames) == (18 if style == "dark" else 36)
    assert dataset.classnames == names(STYLED[style].plan)
    assert len(dataset.test) == dataset.num_classes
    assert dataset.train_x == dataset.test  # as for ImageNet's variants: they define the classes
    assert not dataset.val
    assert sorted(item.label for item in dataset.test) == list(range(dataset.num_classes))


def test_folder_that_cannot_be_created_names_the_variant(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="CrittersDark cannot be created there"):
        build("critters_dark", tmp_path / "file" / "data")


def test_critters_far_has_the_other_species():
    first, second = set(Critters.plan.species), set(CrittersFar.plan.species)
    assert not first & second
    assert first | second == set(range(len(SPECIES)))
    for half in (CrittersFar.plan.species[:18], CrittersFar.plan.species[18:]):
        genera = [SPECIES[i].creature.genus for i in half]
        assert {genus: genera.count(genus) for genus in genera} == dict.fromkeys(genera, 3)
        assert len(set(genera)) == 6


def test_critters_far_has_the_second_best_shift():
    measured = json.loads((ROOT / "assets/critters/shift.json").read_text())
    assert choose(measured["rows"]) == measured["chosen"] == Critters.plan.shift
    others = [row for row in measured["rows"] if row["shift"] != measured["chosen"]]
    assert choose(others) == CrittersFar.plan.shift


def test_critters_far_has_training_images(tmp_path, monkeypatch):
    monkeypatch.setattr(CrittersFar, "plan", replace(CrittersFar.plan, train=2, val=1, test=1))
    monkeypatch.setattr(CrittersFar, "counts", None)
    dataset = build("critters_far", tmp_path, NUM_SHOTS=1, SUBSAMPLE_CLASSES="new")
    assert dataset.classnames == names(CrittersFar.plan)[18:]
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (18, 18, 18)


def test_critters_is_unchanged():
    """All published results depend on the species of Critters and their label order."""
    species = [
        *(6, 3, 8, 15, 17, 22, 28, 35, 31, 38, 37, 40, 56, 58, 52, 65, 67, 69),
        *(10, 2, 11, 18, 19, 20, 34, 33, 29, 39, 44, 43, 54, 48, 49, 70, 71, 63),
    ]
    assert list(Critters.plan.species) == species
    means = Critters.plan.draw("test", 0, 0).mean((0, 1))
    np.testing.assert_allclose(means, [72.41, 163.15, 182.91], atol=0.5)
