"""Two ways in which fetching fails: one source, or all sources of a file."""

from dassl.utils import UsageError


class SourceError(UsageError):
    """A source cannot be used (host, checksum, archive); the next source is tried."""


class FetchError(UsageError):
    """A dataset cannot be fetched; the other datasets are not affected."""
