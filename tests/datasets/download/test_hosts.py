"""Hugging Face (by HF_ENDPOINT, against the local server) and Google Drive (gdown replaced)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gdown
import pytest
import requests
from gdown.exceptions import FileURLRetrievalError

from datasets.download.address import resolve
from datasets.download.errors import SourceError
from datasets.download.fetch import Options, fetch, obtain
from datasets.download.sources import Source
from tests.datasets.download.archives import Toy, source, tar_gz
from tests.datasets.download.server import Server

REPO = "/api/datasets/koorye/Describable-Textures-Dataset/tree/main"
FILE = "/datasets/koorye/Describable-Textures-Dataset/resolve/main/dtd.tar.gz"
MIRROR = Source(
    url="hf://datasets/koorye/Describable-Textures-Dataset/*.tar.gz", name="dtd-koorye.tar.gz"
)


def list_file(path: str, content: bytes) -> dict[str, object]:
    """Return an entry of the Hub's listing, of a file in large file storage."""
    digest = hashlib.sha256(content).hexdigest()
    lfs = {"oid": digest, "size": len(content), "pointerSize": 134}
    return {"type": "file", "path": path, "size": len(content), "oid": "0" * 40, "lfs": lfs}


@pytest.fixture
def hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    return server


def add_repository(hub: Server, content: bytes, listed: bytes) -> None:
    entries = [{"type": "directory", "path": "more", "oid": "0" * 40}]
    entries += [list_file("README.md", b""), list_file("dtd.tar.gz", listed)]  # type: ignore[list-item]
    hub.add(REPO, json.dumps(entries).encode())
    hub.add(FILE, content)


def test_a_repository_with_one_fitting_archive(hub: Server, tmp_path: Path) -> None:
    toy = Toy("dtd", tmp_path / "scratch")
    archive = tar_gz([*toy.files("dtd/images"), ("dtd/split.json", toy.split)])
    add_repository(hub, archive, archive)
    entry = toy.entry(toy.split_part(hub.add("/split.json", toy.split)), toy.image_part(MIRROR))
    assert fetch(entry, Options(tmp_path / "data"))
    address = resolve(MIRROR)
    assert (address.url, address.source.bytes) == (f"{hub.url}{FILE}", len(archive))
    assert address.headers["authorization"] == "Bearer hf_secret"


def test_the_listed_checksum_is_compared(hub: Server, tmp_path: Path) -> None:
    add_repository(hub, b"right", b"other")
    with pytest.raises(SourceError, match=r"the SHA-256 of dtd-koorye.tar.gz is .* instead of"):
        obtain(MIRROR, tmp_path)


def test_a_repository_that_is_gone_or_has_other_files(hub: Server) -> None:
    with pytest.raises(SourceError, match="Hugging Face does not list koorye/Describable"):
        resolve(MIRROR)
    hub.add(REPO, json.dumps([list_file("a.tar.gz", b""), list_file("b.tar.gz", b"")]).encode())
    with pytest.raises(SourceError, match=r"has 2 files \*.tar.gz instead of one \(it has a.tar"):
        resolve(MIRROR)


def test_a_dead_hub_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between huggingface_hub's attempts
    with pytest.raises(SourceError, match="Hugging Face does not list"):
        resolve(MIRROR)


def test_the_token_is_not_sent_to_the_host_of_a_redirect(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets.download.http import download

    server.add("/from", b"", redirect=server.add("/to", b"content"))
    download(f"{server.url}/from", tmp_path / "file", {"authorization": "Bearer hf_secret"})
    assert (tmp_path / "file").read_bytes() == b"content"
    assert server.tokens == ["Bearer hf_secret", None]


def test_google_drive_is_asked_by_id_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drive(id: str, output: str, resume: bool) -> str:
        assert (id, resume) == ("1abc", True)
        Path(output).write_bytes(b"frames")
        return output

    monkeypatch.setattr(gdown, "download", drive)
    good = source("drive://1abc", b"frames", "frames.zip")
    assert obtain(good, tmp_path).read_bytes() == b"frames"
    (tmp_path / "frames.zip").unlink()
    with pytest.raises(SourceError, match=r"the SHA-256 of frames.zip is"):
        obtain(source("drive://1abc", b"others", "frames.zip"), tmp_path)
    assert not (tmp_path / "frames.zip").exists()


@pytest.mark.parametrize(
    "error", [FileURLRetrievalError("Too many users"), requests.ConnectionError("Too many users")]
)
def test_google_drive_refuses(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise error

    monkeypatch.setattr(gdown, "download", refuse)
    with pytest.raises(SourceError, match=r"does not send the file \(Too many users\); a browser"):
        obtain(Source(url="drive://1abc", name="frames.zip"), tmp_path)


def test_google_drive_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gdown, "download", full)
    with pytest.raises(OSError, match="No space left") as error:
        obtain(Source(url="drive://1abc", name="frames.zip"), tmp_path)
    assert error.value.filename == str(tmp_path / "frames.zip")
