"""FGVCAircraft: the split and the label order are read from text files."""

from __future__ import annotations

import pytest

import datasets  # noqa: F401  (registers the datasets)
from dassl.data.datasets import build_dataset
from dassl.utils import UsageError
from tests.toy_data import data_config, write_image

# In file order, not alphabetical: A320 would precede Boeing 737-700.
VARIANTS = ["Boeing 737-700", "707-320", "A320", "F/A-18"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "fgvc_aircraft"
    numbers = iter(range(1025794, 1026000))
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for part, count in (("train", 3), ("val", 2), ("test", 2)):
        for variant in VARIANTS[::-1]:
            for _ in range(count):
                number = next(numbers)
                write_image(folder / f"images/{number}.jpg", seed=number, size=8)
                lines[part].append(f"{number} {variant}")
        (folder / f"images_variant_{part}.txt").write_text("\n".join(lines[part]) + "\n")
    (folder / "variants.txt").write_text("\n".join(VARIANTS) + "\n")
    return folder


def test_labels_follow_variants_txt(folder):
    dataset = build_dataset(data_config(folder.parent, "FGVCAircraft"))
    assert dataset.classnames == VARIANTS
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (12, 8, 8)
    first = dataset.train_x[0]
    assert (first.impath, first.label, first.classname) == (
        str(folder / "images/1025794.jpg"),
        3,
        "F/A-18",
    )


@pytest.mark.parametrize(("classes", "names"), [("base", VARIANTS[:2]), ("new", VARIANTS[2:])])
def test_base_and_new_classes(classes, names, folder):
    options = {"DATASET.SUBSAMPLE_CLASSES": classes, "DATASET.NUM_SHOTS": 1}
    dataset = build_dataset(data_config(folder.parent, "FGVCAircraft", options))
    assert dataset.classnames == names
    assert (len(dataset.train_x), len(dataset.val), len(dataset.test)) == (2, 2, 4)


@pytest.mark.parametrize("name", ["variants.txt", "images_variant_val.txt"])
def test_missing_text_file(name, folder):
    (folder / name).unlink()
    with pytest.raises(UsageError) as error:
        build_dataset(data_config(folder.parent, "FGVCAircraft"))
    assert str(folder / name) in str(error.value)
    assert "fgvc-aircraft-2013b.tar.gz" in str(error.value)


def test_missing_image_folder(folder):
    (folder / "images").rename(folder / "data")
    with pytest.raises(
        UsageError, match=r"no image folder .*fgvc_aircraft/images .*contains: data"
    ):
        build_dataset(data_config(folder.parent, "FGVCAircraft"))


def test_missing_image(folder):
    (folder / "images/1025794.jpg").unlink()
    with pytest.raises(UsageError, match=r"1 of the 12 .*images_variant_train.txt.*1025794.jpg"):
        build_dataset(data_config(folder.parent, "FGVCAircraft"))


def test_variant_missing_from_variants_txt(folder):
    (folder / "variants.txt").write_text("\n".join(VARIANTS[:3]))
    with pytest.raises(
        UsageError, match=r"names the variant 'F/A-18', which variants.txt does not"
    ):
        build_dataset(data_config(folder.parent, "FGVCAircraft"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("variants.txt", b"A320\nF/A-18\nA320\n", "variants.txt names A320 more than once"),
        ("variants.txt", b"\xff\xfe", "variants.txt is not a text file in UTF-8"),
        ("images_variant_test.txt", b"../../a A320\n", "names the image '../../a', which is no"),
        ("images_variant_test.txt", b"", "the test split has no images"),
    ],
)
def test_damaged_text_files(name, content, words, folder):
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError, match=words):
        build_dataset(data_config(folder.parent, "FGVCAircraft"))
