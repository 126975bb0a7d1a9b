"""ImageNet: the user's archives are unpacked, and a flat val/ is sorted by an index file."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datasets.download import imagenet
from datasets.download.errors import FetchError
from datasets.download.imagenet import prepare_imagenet
from datasets.download.sources import Source
from tests.datasets.download.archives import tar_gz

WNIDS = ("n01440764", "n01443537", "n01484850")
TRUTH = (2, 3, 1, 2)  # ILSVRC2012_ID of each validation image; 1 to 3 are WNIDS in order
IMAGES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return data/imagenet with a flat val/."""
    val = tmp_path / "imagenet/images/val"
    val.mkdir(parents=True)
    for name in IMAGES:
        (val / name).write_text(name)
    return tmp_path / "imagenet"


def devkit_files() -> dict[str, bytes]:
    """Return the two files of the devkit that give the classes, in the form of the real ones."""
    names = ["ILSVRC2012_ID", "WNID", "words", "num_children"]
    synsets = np.empty((4, 1), dtype=[(name, object) for name in names])
    for row, wnid in enumerate((*WNIDS, "n00001740")):  # the last is not a class: it has children
        synsets[row, 0] = (row + 1, wnid, f"words {row}", 0 if row < 3 else 2)
    out = io.BytesIO()
    scipy.io.savemat(out, {"synsets": synsets})
    return {
        "data/meta.mat": out.getvalue(),
        "data/ILSVRC2012_validation_ground_truth.txt": "".join(f"{n}\n" for n in TRUTH).encode(),
    }


def assert_sorted(folder: Path) -> None:
    val = folder / "images/val"
    found = {path.name: path.parent.name for path in val.glob("*/*.JPEG")}
    assert found == {name: WNIDS[n - 1] for name, n in zip(IMAGES, TRUTH, strict=True)}
    assert not list(val.glob("*.JPEG"))


def test_val_is_sorted_by_the_devkit(folder: Path) -> None:
    for name, content in devkit_files().items():
        path = folder / "ILSVRC2012_devkit_t12" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert prepare_imagenet(folder) == [f"4 images of {folder / 'images/val'} are in class folders"]
    assert_sorted(folder)
    assert prepare_imagenet(folder) == []


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("LOC_val_solution.csv", "{image},{wnid} 85 1 499 272 {wnid} 3 4 5 6"),
        ("valprep.sh", "mv {image}.JPEG {wnid}/"),
    ],
)
def test_val_is_sorted_by_a_text_file(folder: Path, name: str, line: str) -> None:
    pairs = zip(IMAGES, TRUTH, strict=True)
    lines = [line.format(image=i.removesuffix(".JPEG"), wnid=WNIDS[n - 1]) for i, n in pairs]
    (folder / name).write_text("\n".join(["ImageId,PredictionString", *lines]))
    prepare_imagenet(folder)
    assert_sorted(folder)


def test_an_incomplete_label_file_moves_nothing(folder: Path) -> None:
    (folder / "valprep.sh").write_text(f"mv {IMAGES[0]} {WNIDS[0]}/\n")
    with pytest.raises(FetchError, match=r"3 of the 4 images in .* have no class in the label"):
        prepare_imagenet(folder)
    assert len(list((folder / "images/val").glob("*.JPEG"))) == 4


def test_two_classes_of_an_image_are_refused(folder: Path) -> None:
    (folder / "valprep.sh").write_text("".join(f"mv {IMAGES[0]} {wnid}/\n" for wnid in WNIDS))
    with pytest.raises(FetchError, match="no single WordNet id for ILSVRC2012_val_00000001"):
        prepare_imagenet(folder)


def test_no_labels_are_invented(folder: Path) -> None:
    with pytest.raises(FetchError, match=r"are not known: put ILSVRC2012_devkit_t12\.tar\.gz"):
        prepare_imagenet(folder)


def test_a_broken_devkit(folder: Path) -> None:
    files = devkit_files()
    for name, content in files.items():
        path = folder / "ILSVRC2012_devkit_t12" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if name.endswith(".txt") else content[:200])
    with pytest.raises(FetchError, match=r"meta\.mat cannot be read"):
        prepare_imagenet(folder)


@pytest.mark.parametrize("number", ["4", "9", "tench"])  # 4 has children, so it is not a class
def test_a_ground_truth_of_other_classes(folder: Path, number: str) -> None:
    files = devkit_files()
    for name, content in files.items():
        path = folder / "ILSVRC2012_devkit_t12" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    path.write_text(f"1\n{number}\n")
    with pytest.raises(FetchError, match=f"line 2 of .* is '{number}', not a class of"):
        prepare_imagenet(folder)


def test_the_official_archives_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "imagenet"
    folder.mkdir()
    inner = {wnid: tar_gz([(f"{wnid}_1.JPEG", wnid.encode())]) for wnid in WNIDS}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for wnid, content in inner.items():
            info = tarfile.TarInfo(f"{wnid}.tar")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    devkit = [(f"ILSVRC2012_devkit_t12/{n}", c) for n, c in devkit_files().items()]
    contents = {
        "ILSVRC2012_img_train.tar": plain.getvalue(),
        "ILSVRC2012_img_val.tar": tar_gz([(name, b"x") for name in IMAGES]),
        "ILSVRC2012_devkit_t12.tar.gz": tar_gz(devkit),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    with pytest.raises(FetchError, match=r"is not the official archive .*the MD5 of ILSVRC2012"):
        prepare_imagenet(folder)

    def toy_source(source: Source) -> Source:
        from datasets.download.verify import digest

        return Source(url=source.url, name=source.name, md5=digest(contents[source.name], "md5"))

    toy = {part: toy_source(source) for part, source in imagenet.ARCHIVES.items()}
    monkeypatch.setattr(imagenet, "ARCHIVES", toy)
    monkeypatch.setattr(imagenet, "_DEVKIT_TAR", toy_source(imagenet._DEVKIT_TAR))
    prepare_imagenet(folder)
    assert_sorted(folder)
    found = {path.parent.name: path.read_text() for path in folder.glob("images/train/*/*")}
    assert found == {wnid: wnid for wnid in WNIDS}
    assert not (folder / ".unpacked").exists()
