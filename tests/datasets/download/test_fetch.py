"""Fetching a dataset from a local server: sources in order, resuming, repairing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import datasets.download.fetch as fetching
from dassl.data.datasets import build_dataset
from datasets.download.errors import FetchError
from datasets.download.fetch import Options, fetch, missing_parts
from tests.datasets.download.archives import Toy, source, tar_gz, zipped
from tests.datasets.download.server import Server
from tests.toy_data import data_config


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy("dtd", tmp_path / "scratch")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def assert_complete(root: Path, name: str = "DescribableTextures") -> None:
    dataset = build_dataset(data_config(root, name))
    assert len(dataset.train_x) + len(dataset.val) + len(dataset.test) == 21


def test_split_and_images_are_fetched_once(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz([*toy.files("dtd/images"), ("dtd/labels/labels.txt", b"x")])
    entry = toy.entry(
        toy.split_part(server.add("/split.json", toy.split)),
        toy.image_part(source(server.add("/dtd-r1.0.1.tar.gz", archive), archive)),
    )
    assert len(missing_parts(entry, root)) == 2
    assert fetch(entry, Options(root))
    assert_complete(root)
    assert sorted(path.name for path in (root / ".fetch").iterdir()) == ["dtd.lock"]
    asked = len(server.asked)
    assert not fetch(entry, Options(root))
    assert len(server.asked) == asked, "a complete dataset was asked for again"


def test_a_cut_connection_is_continued(
    server: Server, toy: Toy, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive, cut=[1000, 500])
    part = toy.split_part(server.add("/split.json", toy.split))
    fetch(toy.entry(part, toy.image_part(source(url, archive))), Options(root))
    assert_complete(root)
    ranges = [given for path, given in server.asked if path == "/a.tar.gz"]
    assert ranges == [None, "bytes=1000-", "bytes=1500-"]
    assert "continuing at 1,000 bytes" in capsys.readouterr().out


def test_a_part_file_of_an_earlier_run_is_continued(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive, cut=[1000], status=[200, 404])
    image_part = toy.image_part(source(url, archive))
    entry = toy.entry(toy.split_part(server.add("/split.json", toy.split)), image_part)
    with pytest.raises(FetchError, match="answers 404"):
        fetch(entry, Options(root))
    (part,) = (root / ".fetch/dtd").glob("*.part")
    assert part.stat().st_size == 1000
    fetch(entry, Options(root))
    assert_complete(root)
    assert server.asked[-1] == ("/a.tar.gz", "bytes=1000-")


def test_a_server_without_ranges_starts_again(
    server: Server, toy: Toy, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive, cut=[1000], ranges=False)
    part = toy.split_part(server.add("/split.json", toy.split))
    fetch(toy.entry(part, toy.image_part(source(url, archive))), Options(root))
    assert_complete(root)
    assert "cannot continue a download: starting again" in capsys.readouterr().out


def test_a_server_that_keeps_breaking_is_given_up(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive, cut=[0] * 9)
    part = toy.split_part(server.add("/split.json", toy.split))
    with pytest.raises(FetchError, match=r"broke after 0 of .* \(4 attempts\)"):
        fetch(toy.entry(part, toy.image_part(source(url, archive))), Options(root))


def test_a_dead_source_leads_to_the_next(
    server: Server, toy: Toy, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = zipped(toy.files("dtd/dtd/images"))
    dead = "http://127.0.0.1:9/gone.tar.gz"
    entry = toy.entry(
        toy.split_part(f"{server.url}/nowhere.json", server.add("/split.json", toy.split)),
        toy.image_part(source(dead, b""), source(server.add("/dtd.zip", archive), archive)),
    )
    fetch(entry, Options(root))
    assert_complete(root)
    log = capsys.readouterr().out
    assert "/nowhere.json: the server answers 404 Not Found: trying the next source" in log
    assert f"{dead}: no connection" in log


def test_a_wrong_checksum_deletes_the_file_and_names_both_sums(
    server: Server, toy: Toy, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = tar_gz(toy.files("dtd/images"))
    bad = bytearray(good)
    bad[100] ^= 1
    entry = toy.entry(
        toy.split_part(server.add("/split.json", toy.split)),
        toy.image_part(
            source(server.add("/bad/a.tar.gz", bytes(bad)), good),
            source(server.add("/good/a.tar.gz", good), good),
        ),
    )
    fetch(entry, Options(root))
    assert_complete(root)
    log = capsys.readouterr().out
    assert source("http://x/a", good).sha256 in log
    assert source("http://x/a", bytes(bad)).sha256 in log
    assert "so it was deleted: trying the next source" in log


def test_an_archive_of_another_dataset_is_no_success(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images")[:5])
    entry = toy.entry(
        toy.split_part(server.add("/split.json", toy.split)),
        toy.image_part(source(server.add("/a.tar.gz", archive), archive)),
    )
    with pytest.raises(FetchError, match="does not contain all of images"):
        fetch(entry, Options(root))


def test_an_interrupted_unpack_is_repaired(
    server: Server, toy: Toy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive)
    part = toy.split_part(server.add("/split.json", toy.split))
    entry = toy.entry(part, toy.image_part(source(url, archive)))

    def interrupted(unpacked: Path, folder: Path, names: object) -> None:
        (unpacked / "dtd/images/banded").rename(folder / "half")
        (folder / "images").mkdir()
        (folder / "half").rename(folder / "images/banded")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "place", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch(entry, Options(root))
    assert len(missing_parts(entry, root)) == 1
    fetch(entry, Options(root))
    assert_complete(root)
    assert [path for path, _ in server.asked].count("/a.tar.gz") == 1, "downloaded twice"


def test_missing_images_are_filled_up(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    part = toy.split_part(server.add("/split.json", toy.split))
    image_part = toy.image_part(source(server.add("/a.tar.gz", archive), archive))
    entry = toy.entry(part, image_part)
    fetch(entry, Options(root))
    gone, kept = sorted((root / "dtd/images/banded").iterdir())[:2]
    gone.unlink()
    assert missing_parts(entry, root) == [image_part]
    fetch(entry, Options(root))
    assert gone.exists()
    assert kept.exists()


@pytest.mark.parametrize("nested", ["dtd/images", "images/images", "dtd-r1.0.1/dtd/images"])
def test_a_known_nesting_is_repaired_without_a_download(toy: Toy, root: Path, nested: str) -> None:
    toy.layout.make(root)
    folder = root / "dtd"
    (folder / "images").rename(root / "aside")
    (folder / nested).parent.mkdir(parents=True)
    (root / "aside").rename(folder / nested)
    entry = toy.entry(
        toy.split_part("http://127.0.0.1:9/x"), toy.image_part(source("http://127.0.0.1:9/y", b""))
    )
    assert fetch(entry, Options(root))
    assert_complete(root)


def test_two_folders_of_one_mirror_archive(server: Server, tmp_path: Path, root: Path) -> None:
    cars = Toy("stanford_cars", tmp_path / "cars")
    archive = tar_gz(cars.files("stanford_cars"))
    mirror = source(server.add("/cars.tar.gz", archive), archive)
    entry = cars.entry(
        cars.split_part(server.add("/split.json", cars.split)),
        *(
            cars.image_part(source(f"{server.url}/{part}.tgz", b""), mirror, folder=part)
            for part in ("cars_train", "cars_test")
        ),
    )
    fetch(entry, Options(root))
    assert_complete(root, "StanfordCars")
    assert [path for path, _ in server.asked].count("/cars.tar.gz") == 1


def test_an_archive_in_an_archive(server: Server, tmp_path: Path, root: Path) -> None:
    toy = Toy("eurosat", tmp_path / "scratch")
    archive = zipped([("outer/2750.tar.gz", tar_gz(toy.files("2750"))), ("__MACOSX/2750/._x", b"")])
    entry = toy.entry(
        toy.split_part(server.add("/split.json", toy.split)),
        toy.image_part(source(server.add("/EuroSAT.zip", archive), archive)),
    )
    fetch(entry, Options(root))
    assert_complete(root, "EuroSAT")


def test_a_mirror_replaces_all_hosts(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    server.add("/pub/dtd/split.json", toy.split)
    server.add("/pub/dtd/a.tar.gz", archive)
    entry = toy.entry(
        toy.split_part("https://example.invalid/split.json"),
        toy.image_part(source("https://example.invalid/a.tar.gz", archive)),
    )
    fetch(entry, Options(root, mirror=f"{server.url}/pub/"))
    assert_complete(root)


def test_a_full_disk_stops_with_the_path_and_is_continued(
    server: Server, toy: Toy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    url = server.add("/a.tar.gz", archive)
    part = toy.split_part(server.add("/split.json", toy.split))
    entry = toy.entry(part, toy.image_part(source(url, archive)))
    real_open = open

    def full(path: object, mode: str = "r", *args: object, **options: object) -> object:
        file = real_open(path, mode, *args, **options)  # type: ignore[call-overload]
        if str(path).endswith(".jpg") and "w" in mode:
            file.close()
            file = real_open("/dev/full", mode)
        return file

    with monkeypatch.context() as patch:
        patch.setattr("datasets.download.unpack.open", full, raising=False)
        with pytest.raises(OSError, match="No space") as error:
            fetch(entry, Options(root))
    assert error.value.errno == errno.ENOSPC
    assert str(error.value.filename).endswith(".jpg")
    assert not (root / ".fetch/dtd/unpacked").exists(), "the disk stays full"
    fetch(entry, Options(root))
    assert_complete(root)
    assert [path for path, _ in server.asked].count("/a.tar.gz") == 1


def test_a_full_disk_while_downloading(server: Server, toy: Toy, root: Path) -> None:
    work = root / ".fetch/dtd"
    work.mkdir(parents=True)
    item = source(server.add("/split.json", toy.split), toy.split)
    (work / f"split.json-{item.sha256[:8]}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space") as error:
        fetching.obtain(item, work)
    assert "split.json" in str(error.value.filename)


def test_too_little_space_is_noticed_before_the_download(
    server: Server, toy: Toy, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=10))
    entry = toy.entry(toy.split_part(server.add("/split.json", toy.split)))
    with pytest.raises(FetchError, match=r"needs 0\.0 MB more, but .* has 0\.0 MB free"):
        fetch(entry, Options(root))


def test_a_second_process_is_refused(toy: Toy, root: Path) -> None:
    lock = root / ".fetch/dtd.lock"
    lock.parent.mkdir(parents=True)
    program = (
        "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"locked\n"
    try:
        with pytest.raises(FetchError, match="another process is fetching into"):
            fetch(toy.entry(toy.split_part("http://127.0.0.1:9/x")), Options(root))
    finally:
        other.communicate()


def test_the_part_file_of_another_size_is_replaced(server: Server, toy: Toy, root: Path) -> None:
    item = source(server.add("/split.json", toy.split), toy.split)
    work = root / ".fetch/dtd"
    work.mkdir(parents=True)
    part = work / f"split.json-{item.sha256[:8]}.part"
    part.write_bytes(b"x" * (len(toy.split) + 5))
    assert fetching.obtain(item, work).read_bytes() == toy.split


def test_a_finished_part_file_is_only_verified(server: Server, toy: Toy, root: Path) -> None:
    url = server.add("/split.json", toy.split)
    item = source(url, toy.split, bytes=None)
    work = root / ".fetch/dtd"
    work.mkdir(parents=True)
    (work / f"split.json-{item.sha256[:8]}.part").write_bytes(toy.split)
    assert fetching.obtain(item, work).read_bytes() == toy.split
    assert server.asked == [("/split.json", f"bytes={len(toy.split)}-")]


def test_archives_are_kept_on_request(server: Server, toy: Toy, root: Path) -> None:
    archive = tar_gz(toy.files("dtd/images"))
    entry = toy.entry(
        toy.split_part(server.add("/split.json", toy.split)),
        toy.image_part(source(server.add("/a.tar.gz", archive), archive)),
    )
    fetch(entry, Options(root, keep=True))
    assert sorted(os.listdir(root / ".fetch/dtd")) == ["a.tar.gz", "split.json"]
