"""ImageNet and its shifted test sets."""

from __future__ import annotations

import pickle
import random
import shutil
from pathlib import Path

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data import DataManager
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.utils import UsageError
from tests.toy_data import data_config, write_image

NAMES = {
    "n01440764": "tench",
    "n01443537": "goldfish",
    "n01484850": "great white shark",
    "n02814860": "lighthouse (beacon)",
}


def write_classnames(folder: Path, names: dict[str, str] = NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{wnid} {name}\n" for wnid, name in names.items()]
    (folder / "classnames.txt").write_text("".join(lines))


@pytest.fixture
def imagenet(tmp_path):
    """Create $DATA/imagenet with 6 training and 2 validation images of each class."""
    folder = tmp_path / "imagenet"
    write_classnames(folder)
    for label, wnid in enumerate(NAMES):
        for n in range(6):
            write_image(folder / f"images/train/{wnid}/{wnid}_{n}.JPEG", seed=n, size=8)
        for n in range(2):
            number = 2 * label + n
            path = f"images/val/{wnid}/ILSVRC2012_val_{number:08d}.JPEG"
            write_image(folder / path, seed=number, size=8)
    return folder


def config(root, name="ImageNet", **options):
    return data_config(root, name, {f"DATASET.{key}": value for key, value in options.items()})


def paths(items):
    return [item.impath for item in items]


def test_labels_follow_the_sorted_folders(imagenet):
    dataset = build_dataset(config(imagenet.parent))
    assert dataset.classnames == list(NAMES.values())
    assert (len(dataset.train_x), len(dataset.test)) == (24, 8)
    assert dataset.train_x[0].impath == str(imagenet / "images/train/n01440764/n01440764_0.JPEG")
    assert [item.label for item in dataset.test] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_validation_images_are_the_test_images(imagenet):
    dataset = build_dataset(config(imagenet.parent, SUBSAMPLE_CLASSES="new"))
    assert paths(dataset.val) == paths(dataset.test)
    assert dataset.classnames == list(NAMES.values())[2:]
    assert {item.label for item in dataset.val} == {0, 1}


def test_shots_are_training_images_and_cached_without_val(imagenet):
    drawn = build_dataset(config(imagenet.parent, NUM_SHOTS=2))
    assert (len(drawn.train_x), len(drawn.val), len(drawn.test)) == (8, 8, 8)
    content = pickle.loads((imagenet / "split_fewshot/shot_2-seed_1.pkl").read_bytes())
    assert {part: paths(items) for part, items in content.items()} == {
        "train": paths(drawn.train_x)
    }
    again = build_dataset(config(imagenet.parent, NUM_SHOTS=2))
    assert paths(again.train_x) == paths(drawn.train_x)


def flatten_val(imagenet):
    for path in list((imagenet / "images/val").glob("*/*.JPEG")):
        path.rename(imagenet / "images/val" / path.name)


def test_flat_validation_folder_is_reported(imagenet):
    flatten_val(imagenet)
    for wnid in NAMES:
        (imagenet / "images/val" / wnid).rmdir()
    with pytest.raises(UsageError) as error:
        build_dataset(config(imagenet.parent))
    for part in (
        f"8 images are directly in {imagenet}/images/val",
        "ILSVRC2012_val_00000000.JPEG",
        "class folders",
        "valprep.sh",
    ):
        assert part in str(error.value)


def test_flat_validation_images_beside_empty_class_folders(imagenet):
    flatten_val(imagenet)
    with pytest.raises(UsageError, match=r"8 images are directly in"):
        build_dataset(config(imagenet.parent))


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("wnid", NAMES)
def test_empty_class_folder(wnid, part, imagenet):
    for path in (imagenet / f"images/{part}/{wnid}").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=rf"no images in the class folder .*images/{part}/{wnid}"):
        build_dataset(config(imagenet.parent))


def test_no_class_folders(imagenet):
    for part in ("train", "val"):
        shutil.rmtree(imagenet / "images" / part)
        (imagenet / "images" / part).mkdir()
    with pytest.raises(UsageError, match=r"no class folders with images in .*images/train"):
        build_dataset(config(imagenet.parent))


@pytest.mark.parametrize("content", [b"\xff\xfe", b"n01440764 caf\xe9"])
def test_class_names_that_are_not_text(content, imagenet):
    (imagenet / "classnames.txt").write_bytes(content)
    with pytest.raises(UsageError, match=r"classnames.txt is not a text file in UTF-8"):
        build_dataset(config(imagenet.parent))


def test_class_names_with_a_byte_order_mark(imagenet):
    names = (imagenet / "classnames.txt").read_text()
    (imagenet / "classnames.txt").write_text(f"\ufeff{names}")
    assert build_dataset(config(imagenet.parent)).classnames == list(NAMES.values())


def test_folders_that_differ_between_train_and_val(imagenet):
    (imagenet / "images/val/n01443537").rename(imagenet / "images/val/n02814860_")
    with pytest.raises(UsageError, match=r"2 class folders are in only one of .*n01443537"):
        build_dataset(config(imagenet.parent))


@pytest.mark.parametrize("part", ["train", "val"])
def test_missing_folder(part, imagenet):
    (imagenet / "images" / part).rename(imagenet / "images/other")
    with pytest.raises(
        UsageError, match=rf"no image folder .*images/{part} .*other.*image-net.org"
    ):
        build_dataset(config(imagenet.parent))


def test_missing_class_names_name_their_source(imagenet):
    (imagenet / "classnames.txt").unlink()
    with pytest.raises(UsageError) as error:
        build_dataset(config(imagenet.parent))
    assert str(imagenet / "classnames.txt") in str(error.value)
    assert "1-61f_ol79pViBFDG_IDlUQSwoLcn2XXF" in str(error.value)


def test_folder_without_a_class_name(imagenet):
    write_classnames(imagenet, {"n01440764": "tench"})
    with pytest.raises(UsageError, match=r"no name for 3 of the folders .*n01443537"):
        build_dataset(config(imagenet.parent))


def write_preprocessed(imagenet, train, test=()):
    content = {"train": list(train), "test": list(test)}
    (imagenet / "preprocessed.pkl").write_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))


@pytest.mark.parametrize("moved", [False, True])
def test_order_of_preprocessed_pkl_determines_the_shots(moved, imagenet):
    images = build_dataset(config(imagenet.parent)).train_x
    order = sorted(images, key=lambda item: (item.label, item.impath[::-1]))
    old = "/old/data/imagenet/images" if moved else str(imagenet / "images")
    write_preprocessed(
        imagenet,
        [
            Datum(i.impath.replace(str(imagenet / "images"), old), i.label, 0, i.classname)
            for i in order[::-1]
        ],
    )
    drawn = build_dataset(config(imagenet.parent, NUM_SHOTS=2))
    random.seed(1)
    expected = DatasetBase(train_x=images).generate_fewshot_dataset(order[::-1], num_shots=2)
    assert paths(drawn.train_x) == paths(expected)


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ([], "it names no images"),
        ([Datum("/old/images/train/n01440764/gone.JPEG", 0)], "is not among the images"),
        ([Datum("/old/images/train/n01440764/n01440764_0.JPEG", 0)], "it names 1 of 24"),
        ([Datum("/old/images/train/n01440764/n01440764_0.JPEG", 1)], "has label 1 there, 0 here"),
    ],
)
def test_stale_preprocessed_pkl_is_detected(images, why, imagenet, capsys):
    fresh = build_dataset(config(imagenet.parent, NUM_SHOTS=2))
    (imagenet / "split_fewshot/shot_2-seed_1.pkl").unlink()
    write_preprocessed(imagenet, images)
    dataset = build_dataset(config(imagenet.parent, NUM_SHOTS=2))
    log = capsys.readouterr().out
    assert "preprocessed.pkl is stale and not used" in log
    assert why in log
    assert paths(dataset.train_x) == paths(fresh.train_x)


def test_preprocessed_pkl_with_other_classes_raises(imagenet):
    (imagenet / "preprocessed.pkl").write_bytes(pickle.dumps({"train": [Path("a")]}))
    with pytest.raises(UsageError, match=r"refused to load .*preprocessed.pkl"):
        build_dataset(config(imagenet.parent, NUM_SHOTS=2))


SHIFTED = {
    "ImageNetA": "imagenet-adversarial/imagenet-a",
    "ImageNetR": "imagenet-rendition/imagenet-r",
    "ImageNetSketch": "imagenet-sketch/images",
    "ImageNetV2": "imagenetv2/imagenetv2-matched-frequency-format-val",
}
FOLDERS = {  # class folders in the order of the labels
    "ImageNetA": ["n01443537", "n02814860"],
    "ImageNetR": ["n01443537", "n02814860"],
    "ImageNetSketch": list(NAMES),
    "ImageNetV2": ["0", "1", "2", "3"],
}
EXPECTED = {
    "ImageNetA": ["goldfish", "lighthouse (beacon)"],
    "ImageNetR": ["goldfish", "lighthouse (beacon)"],
    "ImageNetSketch": list(NAMES.values()),
    "ImageNetV2": list(NAMES.values()),
}


def make_shifted(root, name, folders=None):
    write_classnames(root / SHIFTED[name].split("/")[0])
    for label, folder in enumerate(folders or FOLDERS[name]):
        for n in range(3):
            path = root / SHIFTED[name] / folder / f"{label}_{n}.png"
            write_image(path, seed=10 * label + n, size=8)
    (root / SHIFTED[name] / "README.txt").write_text("as in the archives")


@pytest.mark.parametrize("name", SHIFTED)
def test_shifted_sets_have_accuracy_over_their_own_classes(name, tmp_path, capsys):
    make_shifted(tmp_path, name)
    dataset = build_dataset(config(tmp_path, name, NUM_SHOTS=1))
    assert dataset.classnames == EXPECTED[name]
    assert dataset.num_classes == len(EXPECTED[name])
    assert [item.label for item in dataset.test] == sorted([*range(len(EXPECTED[name]))] * 3)
    assert f"{name} is a test set: NUM_SHOTS 1 is not used" in capsys.readouterr().out
    assert not (tmp_path / SHIFTED[name].split("/")[0] / "split_fewshot").exists()


@pytest.mark.parametrize("name", SHIFTED)
def test_shifted_sets_have_a_test_loader_and_no_validation(name, tmp_path):
    make_shifted(tmp_path, name)
    dm = DataManager(config(tmp_path, name))
    assert dm.val_loader is None
    assert sum(len(batch["label"]) for batch in dm.test_loader) == 3 * len(EXPECTED[name])


@pytest.mark.parametrize("name", SHIFTED)
def test_shifted_sets_name_the_sources_of_images_and_names(name, tmp_path):
    cls = DATASET_REGISTRY.get(name)
    with pytest.raises(UsageError) as no_images:
        build_dataset(config(tmp_path, name))
    assert str(tmp_path / SHIFTED[name]) in str(no_images.value)
    assert cls.images_url in str(no_images.value)
    make_shifted(tmp_path, name)
    (tmp_path / SHIFTED[name]).parent.joinpath("classnames.txt").unlink()
    with pytest.raises(UsageError, match=r"no file .*classnames.txt: get it from https://drive"):
        build_dataset(config(tmp_path, name))


def test_v2_folders_with_wordnet_ids(tmp_path):
    make_shifted(tmp_path, "ImageNetV2", folders=list(NAMES))
    dataset = build_dataset(config(tmp_path, "ImageNetV2"))
    assert dataset.classnames == EXPECTED["ImageNetV2"]


def test_v2_numbers_count_sorted_ids_whatever_the_order_of_classnames_txt(tmp_path):
    make_shifted(tmp_path, "ImageNetV2")
    write_classnames(tmp_path / "imagenetv2", dict(reversed(NAMES.items())))
    dataset = build_dataset(config(tmp_path, "ImageNetV2"))
    assert dataset.classnames == EXPECTED["ImageNetV2"]
    assert dataset.test[0].impath.endswith("/0/0_0.png")


@pytest.mark.parametrize("folders", [["0", "1", "3"], ["0", "1", "02", "3"]])
def test_v2_with_a_missing_folder(folders, tmp_path):
    make_shifted(tmp_path, "ImageNetV2", folders=folders)
    words = rf"has {len(folders)} numbered class folders.*0 to 3 are needed"
    with pytest.raises(UsageError, match=words):
        build_dataset(config(tmp_path, "ImageNetV2"))


def test_sketch_before_its_folder_is_renamed(tmp_path):
    make_shifted(tmp_path, "ImageNetSketch")
    (tmp_path / SHIFTED["ImageNetSketch"]).rename(tmp_path / "imagenet-sketch/sketch")
    with pytest.raises(UsageError, match=r"no image folder .*/images \(.* contains: .*sketch\)"):
        build_dataset(config(tmp_path, "ImageNetSketch"))
