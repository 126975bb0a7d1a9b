"""OpenAI's released models: names, addresses, and verified downloads."""

import hashlib
import http.client
from pathlib import Path

from .errors import WeightsError

_SHA256 = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L/14@336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}

# Per-channel statistics of the images that these models were trained with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Models(dict[str, str]):
    """Name -> address of OpenAI's models. Any other name has an address for clip._download."""

    def __missing__(self, name: str) -> str:
        return f"{ANY}{name}"


ANY = "weights:"  # begins the address of a model that is not OpenAI's
_FOLDER = "https://openaipublic.azureedge.net/clip/models"
MODELS = Models(
    (name, f"{_FOLDER}/{sha256}/{name.replace('/', '-').replace('@', '-')}.pt")
    for name, sha256 in _SHA256.items()
)


def cache_folder() -> Path:
    """Return the folder in which OpenAI's package and open_clip keep their downloads."""
    return Path("~/.cache/clip").expanduser()


def download(url: str, root: str | Path | None = None) -> str:
    """Download a file to ``root`` (default: ~/.cache/clip) unless it exists; return its path.

    The last folder of the address is the SHA-256 of the file, which is checked.

    Raises:
        WeightsError: the download failed, or the file has another SHA-256.
    """
    sha256, filename = url.split("/")[-2:]
    path = Path(root or cache_folder()) / filename
    if path.exists():
        verify(path, sha256)
        return str(path)
    import torch  # slow to import, and only downloads need it

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"cannot download {url}: {error}; fetch it on another machine and put it at {path}"
        ) from error
    return str(path)


def verify(path: Path, sha256: str) -> None:
    """Raise a :class:`WeightsError` unless the file has this SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise WeightsError(
            f"{path} is not OpenAI's file: its SHA-256 is {digest} instead of {sha256};"
            " delete it to download it again, or pass its path as the model's name to use it"
        )
