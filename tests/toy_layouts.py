"""The datasets with a split file, in their real layouts, with three classes each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.toy_data import write_image

PARTS = {"train": 3, "val": 2, "test": 2}  # images per class


@dataclass(frozen=True)
class Layout:
    """Paths of a dataset's files.

    ``classes`` maps a class name to a pattern of its images' paths below ``images``, with fields
    ``part`` (train or test) and ``n``, the number of the image in the dataset.
    """

    folder: str
    images: str
    split_file: str
    classes: dict[str, str]

    def make(self, root: Path) -> dict[str, list[list]]:
        """Write images and split file below ``root`` and return the split."""
        split: dict[str, list[list]] = {part: [] for part in PARTS}
        number = 0
        for label, (name, pattern) in enumerate(self.classes.items()):
            for part, count in PARTS.items():
                for _ in range(count):
                    number += 1
                    path = pattern.format(n=number, part="test" if part == "test" else "train")
                    write_image(root / self.folder / self.images / path, seed=number, size=8)
                    split[part].append([path, label, name])
        (root / self.folder / self.split_file).write_text(json.dumps(split))
        return split


LAYOUTS = {
    "Caltech101": Layout(
        "caltech-101",
        "101_ObjectCategories",
        "split_zhou_Caltech101.json",
        {
            "face": "Faces/image_{n:04d}.jpg",
            "leopard": "Leopards/image_{n:04d}.jpg",
            "accordion": "accordion/image_{n:04d}.jpg",
        },
    ),
    "DescribableTextures": Layout(
        "dtd",
        "images",
        "split_zhou_DescribableTextures.json",
        {
            "banded": "banded/banded_{n:04d}.jpg",
            "blotchy": "blotchy/blotchy_{n:04d}.jpg",
            "braided": "braided/braided_{n:04d}.jpg",
        },
    ),
    "EuroSAT": Layout(
        "eurosat",
        "2750",
        "split_zhou_EuroSAT.json",
        {
            "Annual Crop Land": "AnnualCrop/AnnualCrop_{n}.jpg",
            "Forest": "Forest/Forest_{n}.jpg",
            "Sea or Lake": "SeaLake/SeaLake_{n}.jpg",
        },
    ),
    "Food101": Layout(
        "food-101",
        "images",
        "split_zhou_Food101.json",
        {
            "apple_pie": "apple_pie/{n}.jpg",
            "baby_back_ribs": "baby_back_ribs/{n}.jpg",
            "baklava": "baklava/{n}.jpg",
        },
    ),
    "OxfordFlowers": Layout(
        "oxford_flowers",
        "jpg",
        "split_zhou_OxfordFlowers.json",
        {
            "pink primrose": "image_{n:05d}.jpg",
            "hard-leaved pocket orchid": "image_{n:05d}.jpg",
            "canterbury bells": "image_{n:05d}.jpg",
        },
    ),
    "OxfordPets": Layout(
        "oxford_pets",
        "images",
        "split_zhou_OxfordPets.json",
        {
            "abyssinian": "Abyssinian_{n}.jpg",
            "american_bulldog": "american_bulldog_{n}.jpg",
            "bengal": "Bengal_{n}.jpg",
        },
    ),
    "StanfordCars": Layout(
        "stanford_cars",
        ".",
        "split_zhou_StanfordCars.json",
        {
            "2000 AM General Hummer SUV": "cars_{part}/{n:05d}.jpg",
            "2012 Acura RL Sedan": "cars_{part}/{n:05d}.jpg",
            "2012 Tesla Model S Sedan": "cars_{part}/{n:05d}.jpg",
        },
    ),
    "SUN397": Layout(
        "sun397",
        "SUN397",
        "split_zhou_SUN397.json",
        {
            "abbey": "a/abbey/sun_{n}.jpg",
            "outdoor apartment building": "a/apartment_building/outdoor/sun_{n}.jpg",
            "youth hostel": "y/youth_hostel/sun_{n}.jpg",
        },
    ),
    "UCF101": Layout(
        "ucf101",
        "UCF-101-midframes",
        "split_zhou_UCF101.json",
        {
            "Apply_Eye_Makeup": "Apply_Eye_Makeup/v_ApplyEyeMakeup_g{n:02d}_c01.jpg",
            "Apply_Lipstick": "Apply_Lipstick/v_ApplyLipstick_g{n:02d}_c01.jpg",
            "Archery": "Archery/v_Archery_g{n:02d}_c01.jpg",
        },
    ),
}
