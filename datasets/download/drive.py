"""Downloads from Google Drive, by gdown."""

from pathlib import Path

from .errors import SourceError
from .http import naming


def download_from_drive(identifier: str, path: Path) -> None:
    """Download a file of Google Drive to ``path``; a broken download is continued next time.

    Raises:
        SourceError: Drive refuses (too many downloads lately, not public), or cannot be reached.
    """
    import gdown
    from gdown.exceptions import DownloadError

    try:
        with naming(path):
            result = gdown.download(id=identifier, output=str(path), resume=True)
    except (DownloadError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk; those of the network have no number
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(
            f"Google Drive does not send the file ({reason[:200]}); "
            f"a browser may get it: https://drive.google.com/file/d/{identifier}"
        ) from error
    if result is None or not path.is_file():
        raise SourceError(f"Google Drive sent no file for {identifier}")
