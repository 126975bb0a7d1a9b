"""A dataset file written for CoOp works unchanged."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import datasets  # noqa: F401  (the package that the file is dropped into)
from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.utils import set_random_seed
from tests.toy_data import data_config, write_image

DATA = Path(__file__).parents[1] / "data"
GOLDEN = json.loads((DATA / "fewshot.json").read_text())


@pytest.fixture(autouse=True)
def dropped_in(monkeypatch):
    """Install tests/data/coop_style_dataset.py as the module datasets.my_objects."""
    monkeypatch.setattr(DATASET_REGISTRY, "_obj_map", dict(DATASET_REGISTRY._obj_map))
    spec = importlib.util.spec_from_file_location(
        "datasets.my_objects", DATA / "coop_style_dataset.py"
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "datasets.my_objects", module)
    spec.loader.exec_module(module)


def test_shots_of_a_split_file_match_the_original(tmp_path):
    folder = tmp_path / "my_objects"
    for entries in GOLDEN["split"].values():
        for path, _, _ in entries:
            (folder / "pictures" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "pictures" / path).touch()
    (folder / "split_me_MyObjects.json").write_text(json.dumps(GOLDEN["split"]))
    options = {"DATASET.NUM_SHOTS": 4, "DATASET.SUBSAMPLE_CLASSES": "base", "SEED": 2}
    cfg = data_config(tmp_path, "MyObjects", options)
    for _ in range(2):  # drawn, then from its pickle
        set_random_seed(2)
        dataset = build_dataset(cfg)
        for part, items in (("train", dataset.train_x), ("val", dataset.val)):
            expected = GOLDEN["samples"]["base"]["4"]["2"][part]
            relative = [str(Path(i.impath).relative_to(folder / "pictures")) for i in items]
            assert [[p, i.label] for p, i in zip(relative, items, strict=True)] == expected


def test_class_folders_are_split_and_loaded(tmp_path):
    for label, name in enumerate(["ant", "junk", "yin_yang"]):
        for n in range(8):
            write_image(tmp_path / f"my_objects/pictures/{name}/{n}.png", seed=10 * label + n)
    set_random_seed(1)
    dm = DataManager(data_config(tmp_path, "MyObjects"))
    assert dm.dataset.checked
    assert dm.dataset.classnames == ["ant", "taijitu"]
    sizes = len(dm.dataset.train_x), len(dm.dataset.val), len(dm.dataset.test)
    assert sizes == (8, 4, 4)
    assert next(iter(dm.train_loader_x))["img"].shape == (4, 3, 32, 32)
    assert next(iter(dm.train_loader_u))["label"].tolist() == [-1] * 4
    again = build_dataset(data_config(tmp_path, "MyObjects"))
    assert [i.impath for i in again.test] == [i.impath for i in dm.dataset.test]
