"""Turn the address of a source into one that can be downloaded: Hugging Face and mirrors."""

import fnmatch
import os
from dataclasses import dataclass, field

from .errors import SourceError
from .sources import Source


@dataclass(frozen=True)
class Address:
    """An http(s) address with request headers, and the source with what its host tells of it."""

    url: str
    source: Source
    headers: dict[str, str] = field(default_factory=dict)


def on_mirror(source: Source, mirror: str, dataset: str) -> Source:
    """Return the source with the address MIRROR/<dataset>/<file name>."""
    fields = {name: getattr(source, name) for name in source.__struct_fields__}
    return Source(**{**fields, "url": f"{mirror.rstrip('/')}/{dataset}/{source.name}"})


def resolve(source: Source) -> Address:
    """Return the download address of a source; that of Google Drive stays as it is.

    A file on Hugging Face without a checksum in sources.yaml gets that of the repository's listing.
    HF_ENDPOINT and HF_TOKEN are respected.

    Raises:
        SourceError: the repository cannot be listed, or does not have exactly one such file.
    """
    if not source.url.startswith("hf://"):
        return Address(source.url, source)
    kind, owner, name, pattern = source.url.removeprefix("hf://").split("/", 3)
    repo, repo_type = f"{owner}/{name}", kind.removesuffix("s")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    path = pattern
    if source.sha256 is None:
        path, size, sha256 = _find(repo, repo_type, pattern, endpoint)
        source = Source(url=source.url, name=source.name, bytes=size, sha256=sha256)
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo, path, repo_type=repo_type, endpoint=endpoint)
    return Address(url, source, dict(build_hf_headers()))


def _find(
    repo: str, repo_type: str, pattern: str, endpoint: str | None
) -> tuple[str, int, str | None]:
    """Return path, size and SHA-256 of the one file of a repository that fits the pattern."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.hf_api import RepoFile

    # The base class of the HTTP client that this version of huggingface_hub uses (httpx, requests).
    client_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        tree = list(HfApi(endpoint=endpoint).list_repo_tree(repo, repo_type=repo_type))
    except (client_error, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SourceError(f"Hugging Face does not list {repo} ({reason})") from error
    files = [item for item in tree if isinstance(item, RepoFile)]
    found = [item for item in files if fnmatch.fnmatch(item.path.lower(), pattern.lower())]
    if len(found) != 1:
        names = ", ".join(item.path for item in files[:5]) or "nothing"
        raise SourceError(
            f"{repo} has {len(found)} files {pattern} instead of one (it has {names})"
        )
    (file,) = found
    return file.path, file.size, file.lfs.sha256 if file.lfs is not None else None
