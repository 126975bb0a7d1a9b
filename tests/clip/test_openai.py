"""Downloads from file:// addresses."""

import hashlib
from pathlib import Path

import open_clip
import pytest

import clip
from clip.errors import WeightsError
from clip.openai import MODELS, download

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the address of a file in a folder named by its hash, like OpenAI's."""
    file = tmp_path / "server" / SHA256 / "toy.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return file.as_uri()


def test_openais_addresses() -> None:
    files = {name: address.split("/")[-1] for name, address in MODELS.items()}
    assert files == {
        "RN50": "RN50.pt",
        "RN101": "RN101.pt",
        "RN50x4": "RN50x4.pt",
        "RN50x16": "RN50x16.pt",
        "RN50x64": "RN50x64.pt",
        "ViT-B/32": "ViT-B-32.pt",
        "ViT-B/16": "ViT-B-16.pt",
        "ViT-L/14": "ViT-L-14.pt",
        "ViT-L/14@336px": "ViT-L-14-336px.pt",
    }
    hashes = {address.split("/")[-2] for address in MODELS.values()}
    assert len(hashes) == 9
    assert {len(each) for each in hashes} == {64}


def test_openais_addresses_equal_open_clips_copy() -> None:
    names = {"ViT-L/14@336px": "ViT-L-14-336"}
    for name, address in MODELS.items():
        theirs = names.get(name, name.replace("/", "-"))
        assert address == open_clip.get_pretrained_url(theirs, "openai")


def test_download_is_verified_and_cached(url: str, tmp_path: Path) -> None:
    root = tmp_path / "new" / "cache"
    path = clip._download(url, str(root))
    assert path == str(root / "toy.pt")
    assert Path(path).read_bytes() == CONTENT
    assert [each.name for each in root.iterdir()] == ["toy.pt"]  # no temporary file is left
    Path(url.removeprefix("file://")).unlink()
    assert clip._download(url, str(root)) == path  # from the cache


def test_downloads_go_to_openais_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert clip._download(url) == str(tmp_path / "home/.cache/clip/toy.pt")


def test_download_with_another_hash_is_deleted(url: str, tmp_path: Path) -> None:
    Path(url.removeprefix("file://")).write_bytes(CONTENT + b"?")
    with pytest.raises(WeightsError, match="invalid hash value"):
        download(url, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_cached_file_with_another_hash_raises(url: str, tmp_path: Path) -> None:
    cached = tmp_path / "toy.pt"
    cached.write_bytes(b"other weights")
    with pytest.raises(WeightsError, match=r"toy\.pt is not OpenAI's file.*delete it"):
        download(url, tmp_path)
    assert cached.read_bytes() == b"other weights"


def test_a_failed_download_raises_a_clear_error(tmp_path: Path) -> None:
    url = (tmp_path / SHA256 / "none.pt").as_uri()
    with pytest.raises(WeightsError, match=r"fetch it .* and put it at .*none\.pt"):
        download(url, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
