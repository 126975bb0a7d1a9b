"""Few-shot samples are those of a public set of lists made with CoOp's code, image by image.

tests/data/public_fewshot.json has the positions in CoOp's split files of the images in
https://github.com/linzhiqiu/cross_modal_adaptation (commit 0ba1f73, indices/). EuroSAT and DTD have
known numbers of images per class, so their samples are compared on generated splits; the others
need the true split file, and are compared if $DATA has the dataset.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data.datasets import DATASET_REGISTRY, Datum, build_dataset
from datasets.split import save_split
from tests.toy_data import data_config

Positions = dict[str, list[int]]
PUBLIC = json.loads((Path(__file__).parents[1] / "data/public_fewshot.json").read_text())
CASES = [
    pytest.param(name, int(shots), expected, id=f"{name}-{shots}")
    for name, by_shots in PUBLIC["positions"].items()
    for shots, expected in by_shots.items()
]
DATASETS = {
    "eurosat": "EuroSAT",
    "dtd": "DescribableTextures",
    "oxford_pets": "OxfordPets",
    "ucf101": "UCF101",
    "caltech101": "Caltech101",
    "oxford_flowers": "OxfordFlowers",
    "stanford_cars": "StanfordCars",
}
# Images of each class in the official dataset, in the order of the labels; a split has half of
# them for training, 20 % for validation and 30 % for tests.
CLASS_SIZES = {
    "eurosat": (3000, 3000, 3000, 2500, 2500, 2000, 2500, 3000, 2500, 3000),
    "dtd": (120,) * 47,
}
IMAGES = {"eurosat": "2750", "dtd": "images"}


def generate(root: Path, name: str) -> None:
    """Write empty images and a split file with the classes of an official dataset."""
    parts: dict[str, list[Datum]] = {"train": [], "val": [], "test": []}
    folder = root / name / IMAGES[name]
    for label, size in enumerate(CLASS_SIZES[name]):
        (folder / str(label)).mkdir(parents=True)
        bounds = size // 2, size * 7 // 10
        for number in range(size):
            path = folder / str(label) / f"{number}.jpg"
            path.touch()
            part = "train" if number < bounds[0] else "val" if number < bounds[1] else "test"
            parts[part].append(Datum(str(path), label, 0, str(label)))
    split_file = root / name / DATASET_REGISTRY.get(DATASETS[name]).split_file
    save_split(parts["train"], parts["val"], parts["test"], str(split_file), str(folder))


def positions(root: Path, name: str, shots: int) -> Positions:
    """Return where the sampled images are in the whole lists of training and validation images."""

    def build(shots: int) -> dict[str, Sequence[Datum]]:
        options = {"DATASET.NUM_SHOTS": shots, "SEED": PUBLIC["seed"]}
        dataset = build_dataset(data_config(root, DATASETS[name], options))
        assert dataset.val is not None
        return {"train": dataset.train_x, "val": dataset.val}

    whole, sampled = build(0), build(shots)
    found = {}
    for part, items in sampled.items():
        place = {item.impath: i for i, item in enumerate(whole[part])}
        found[part] = [place[item.impath] for item in items]
    return found


@pytest.mark.parametrize(
    ("name", "shots", "expected"), [case for case in CASES if case.values[0] in CLASS_SIZES]
)
def test_sample_of_a_split_with_the_official_sizes(
    name: str, shots: int, expected: Positions, tmp_path: Path
) -> None:
    generate(tmp_path, name)
    found = positions(tmp_path, name, shots)
    for part, places in expected.items():
        assert found[part] == places


@pytest.mark.skipif("DATA" not in os.environ, reason="needs the benchmarks: set DATA")
@pytest.mark.parametrize(("name", "shots", "expected"), CASES)
def test_sample_of_the_official_split(name: str, shots: int, expected: Positions) -> None:
    root = Path(os.environ["DATA"])
    cls = DATASET_REGISTRY.get(DATASETS[name])
    if not (root / cls.dataset_dir / cls.split_file).is_file():
        pytest.skip(f"{root} has no {cls.dataset_dir}/{cls.split_file}")
    found = positions(root, name, shots)
    for part, places in expected.items():
        assert found[part] == places
