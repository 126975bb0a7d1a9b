"""Where the files of each dataset come from: datasets/sources.yaml, checked."""

from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from msgspec import Meta

from dassl.utils import UsageError
from dassl.utils.schema import Count, Record, check

SOURCES = Path(__file__).parents[1] / "sources.yaml"

Text = Annotated[str, Meta(min_length=1)]
Url = Annotated[str, Meta(pattern=r"^(https?|hf|drive)://[^\s]+$")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$")]  # a file name, not a path
Inside = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")
]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Sha1 = Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
Md5 = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class Source(Record, frozen=True, forbid_unknown_fields=True):
    """One address of a file or archive, with what is known about its content.

    Addresses are http(s)://..., hf://datasets/OWNER/REPOSITORY/FILE and hf://models/... (Hugging
    Face; FILE may be a pattern such as *.tar.gz that fits one file), or drive://ID (Google Drive).
    """

    url: Url
    name: Name  # of the file on this machine, and below --mirror
    bytes: Count | None = None
    sha256: Sha256 | None = None
    md5: Md5 | None = None
    git: Sha1 | None = None  # git's name of the content (git hash-object)


class Part(Record, frozen=True, forbid_unknown_fields=True):
    """Files that belong together, and their sources in the order in which they are tried."""

    creates: Annotated[list[Inside], Meta(min_length=1)]  # below the dataset's folder
    sources: Annotated[list[Source], Meta(min_length=1)]
    unpack: bool = False  # whether the sources are archives


class Origin(Record, frozen=True, forbid_unknown_fields=True):
    """The sources and the license of a dataset.

    ``place`` maps the name of a folder or file in an archive to its path in the dataset's folder.
    """

    license: Text
    parts: list[Part]
    place: dict[Text, Inside] = {}


@cache
def load_origins(path: Path = SOURCES) -> dict[str, Origin]:
    """Return the sources of all datasets by the name of their config, such as "dtd".

    Raises:
        UsageError: the file is not YAML, or does not fit.
    """
    remedy = "restore it with git checkout"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: text, odd numbers
        raise UsageError(f"{path} is not YAML ({_line(error)}): {remedy}") from error
    return check(content, dict[str, Origin], str(path), remedy)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
