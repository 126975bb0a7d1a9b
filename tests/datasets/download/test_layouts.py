"""The archives of all datasets, in the layouts of their hosts and of the mirrors."""

from __future__ import annotations

import gzip
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from datasets.base import Counts
from datasets.download.catalog import Entry, catalog, gigabytes
from datasets.download.fetch import Options, fetch
from datasets.download.inventory import take_inventory
from datasets.download.sources import Origin, Part
from datasets.download.unpack import unpack
from tests.datasets.download.archives import Toy, source, tar_gz, zipped
from tests.datasets.download.server import Server
from tests.toy_layouts import LAYOUTS

ROOT = Path(__file__).parents[3]

# What the official archive has before the paths in the split file. Caltech101 has an archive in its
# archive, and StanfordCars two archives; both have tests in test_fetch.py.
OFFICIAL = {
    "oxford_pets": "images",
    "oxford_flowers": "jpg",
    "food101": "food-101/images",
    "sun397": "SUN397",
    "dtd": "dtd/images",
    "eurosat": "2750",
    "ucf101": "UCF-101-midframes",
}
VARIANTS = {
    "imagenetv2": "imagenetv2-matched-frequency-format-val",
    "imagenet_sketch": "sketch",
    "imagenet_a": "imagenet-a",
    "imagenet_r": "imagenet-r",
}


def with_sources(name: str, server: Server, archive: bytes) -> Entry:
    """Return the real dataset with this archive as the only source of its images."""
    entry = catalog()[name]
    assert entry.origin is not None
    item = source(server.add("/archive", archive), archive)
    parts = [
        Part(creates=part.creates, sources=[item], unpack=True)
        for part in entry.origin.parts
        if part.unpack
    ]
    origin = Origin(license="toy", parts=parts, place=entry.origin.place)
    return replace(entry, origin=origin)


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("mirror", [False, True], ids=["official", "mirror"])
def test_split_datasets(name: str, mirror: bool, server: Server, tmp_path: Path) -> None:
    toy = Toy(name, tmp_path / "scratch")
    prefix = f"{toy.layout.folder}/{toy.layout.images}" if mirror else OFFICIAL[name]
    make = zipped if mirror else tar_gz
    others = [("__MACOSX/images/._1.jpg", b""), (f"{toy.layout.folder}/split_other.json", b"{}")]
    entry = with_sources(name, server, make([*toy.files(prefix), *others]))
    folder = entry.folder(tmp_path / "data")
    folder.mkdir(parents=True)
    (folder / toy.layout.split_file).write_bytes(toy.split)
    assert fetch(entry, Options(tmp_path / "data"))
    inventory = take_inventory(entry, tmp_path / "data")
    assert inventory.complete
    assert len(inventory.images) == 21
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [toy.layout.images, toy.layout.split_file]
    )


def test_caltech101_is_an_archive_in_an_archive(server: Server, tmp_path: Path) -> None:
    toy = Toy("caltech101", tmp_path / "scratch")
    inner = tar_gz(toy.files("101_ObjectCategories"))
    files = [
        ("caltech-101/101_ObjectCategories.tar.gz", inner),
        ("caltech-101/Annotations.tar", b""),
    ]
    entry = with_sources("caltech101", server, zipped(files))
    folder = entry.folder(tmp_path / "data")
    folder.mkdir(parents=True)
    (folder / toy.layout.split_file).write_bytes(toy.split)
    assert fetch(entry, Options(tmp_path / "data"))
    assert take_inventory(entry, tmp_path / "data").complete


@pytest.mark.parametrize("prefix", ["fgvc-aircraft-2013b/data", "fgvc_aircraft"])
def test_aircraft(prefix: str, server: Server, tmp_path: Path) -> None:
    files = [(f"{prefix}/images/{number}.jpg", b"x") for number in range(6)]
    files += [(f"{prefix}/variants.txt", b"707-320\n")]
    for number, part in enumerate(("train", "val", "test")):
        lines = f"{2 * number} 707-320\n{2 * number + 1} 707-320\n".encode()
        files.append((f"{prefix}/images_variant_{part}.txt", lines))
    entry = with_sources("fgvc_aircraft", server, tar_gz(files))
    assert fetch(entry, Options(tmp_path))
    inventory = take_inventory(entry, tmp_path)
    assert inventory.complete
    assert len(inventory.images) == 6


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("mirror", [False, True], ids=["official", "mirror"])
def test_imagenet_variants(
    name: str, mirror: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = catalog()[name].cls
    monkeypatch.setattr(cls, "counts", Counts(classes=2, test=3))
    prefix = f"{cls.dataset_dir}/{cls.image_dir}" if mirror else VARIANTS[name]
    paths = ("n01440764/a.jpg", "n01440764/b.JPEG", "n01443537/a.jpg")
    entry = with_sources(name, server, tar_gz([(f"{prefix}/{path}", b"x") for path in paths]))
    assert fetch(entry, Options(tmp_path))
    folder = entry.folder(tmp_path) / cls.image_dir
    assert sorted(str(path.relative_to(folder)) for path in folder.glob("*/*")) == sorted(paths)
    assert take_inventory(entry, tmp_path).complete
    (folder / paths[0]).unlink()
    assert fetch(entry, Options(tmp_path)), "an image is missing, but nothing was fetched"
    assert (folder / paths[0]).exists()


def test_classnames_of_another_variant_are_copied(tmp_path: Path) -> None:
    names = "".join(f"n{number:08d} class {number}\n" for number in range(1000))
    (tmp_path / "imagenetv2").mkdir()
    (tmp_path / "imagenetv2/classnames.txt").write_text("n01440764\n")
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet/classnames.txt").write_text(names)
    entry = catalog()["imagenet_a"]
    assert entry.origin is not None
    part = entry.origin.parts[0]
    assert part.creates == ["classnames.txt"]
    origin = Origin(license="toy", parts=[part])
    assert fetch(replace(entry, origin=origin), Options(tmp_path))
    assert (tmp_path / "imagenet-adversarial/classnames.txt").read_text() == names


def test_a_zip_at_the_end_of_a_tar_is_part_of_it(tmp_path: Path) -> None:
    plain = gzip.decompress(tar_gz([("a", b"x"), ("b.zip", zipped([("c", b"x")]))]))
    assert zipfile.is_zipfile(io.BytesIO(plain)), "not the trap that this test is about"
    (tmp_path / "archive.tar").write_bytes(plain)
    unpack(tmp_path / "archive.tar", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b.zip"]


def test_layouts_of_all_downloadable_datasets_are_tested() -> None:
    others = {"caltech101", "stanford_cars", "fgvc_aircraft", "imagenet"}
    assert {*OFFICIAL, *VARIANTS, *others} == {
        name for name, entry in catalog().items() if entry.origin is not None
    }
    assert len(OFFICIAL) + 2 == len(LAYOUTS)


def test_the_document_has_every_license_and_first_source() -> None:
    text = (ROOT / "docs/datasets.md").read_text()
    for name, entry in catalog().items():
        if entry.origin is None:
            continue
        (row,) = [line for line in text.splitlines() if line.startswith(f"| {name} | [")] or [""]
        if name == "imagenet":
            assert f"| {entry.origin.license} |" in text
            continue
        first = next(part.sources[0] for part in entry.origin.parts if part.unpack)
        assert f"[{first.name}](" in row
        assert row.endswith(f"| {gigabytes(entry.download)} | {entry.origin.license} |")
