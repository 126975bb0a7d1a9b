"""Base classes of datasets: an image, and lists of images with class names.

Pickled few-shot samples contain ``dassl.data.datasets.base_dataset.Datum`` and its four attributes,
as in the original Dassl, so neither may be renamed.
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from dassl.utils import UsageError, nearest


class Datum:
    """An image: path, label, domain index and class name.

    The path is not checked here, since that is slow for many images on a network file system.
    """

    def __init__(
        self, impath: str = "", label: int = 0, domain: int = 0, classname: str = ""
    ) -> None:
        if not isinstance(impath, str):
            raise TypeError(f"impath must be a str, got a {type(impath).__name__}: {impath!r}")
        self._impath = impath
        self._label = label
        self._domain = domain
        self._classname = classname

    @property
    def impath(self) -> str:
        return self._impath

    @property
    def label(self) -> int:
        return self._label

    @property
    def domain(self) -> int:
        return self._domain

    @property
    def classname(self) -> str:
        return self._classname

    def __repr__(self) -> str:
        return (
            f"Datum({self._impath!r}, label={self._label}, "
            f"domain={self._domain}, classname={self._classname!r})"
        )


class DatasetBase:
    """Labeled (``train_x``), unlabeled (``train_u``), validation and test images.

    The class names are those of ``train_x``.
    """

    dataset_dir = ""  # folder below cfg.DATASET.ROOT
    domains: list[str] = []  # names of all domains
    warnings: Sequence[str] = ()  # about results that can mislead, for result.json
    trusted_images = False  # whether the images need no check, as this program wrote them

    def __init__(
        self,
        train_x: Sequence[Datum] | None = None,
        train_u: Sequence[Datum] | None = None,
        val: Sequence[Datum] | None = None,
        test: Sequence[Datum] | None = None,
    ) -> None:
        if not train_x:
            raise UsageError(f"{type(self).__name__} has no training images")
        self._train_x = train_x
        self._train_u = train_u
        self._val = val
        self._test = test
        self._num_classes = self.get_num_classes(train_x)
        self._lab2cname, self._classnames = self.get_lab2cname(train_x)

    @property
    def display_name(self) -> str:
        """Name of the dataset in logs, records and tables: DATASET.NAME."""
        return type(self).__name__

    @property
    def train_x(self) -> Sequence[Datum]:
        return self._train_x

    @property
    def train_u(self) -> Sequence[Datum] | None:
        return self._train_u

    @property
    def val(self) -> Sequence[Datum] | None:
        return self._val

    @property
    def test(self) -> Sequence[Datum] | None:
        return self._test

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    @property
    def classnames(self) -> list[str]:
        return self._classnames

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @staticmethod
    def get_num_classes(data_source: Iterable[Datum]) -> int:
        """Return the largest label plus one."""
        return max(item.label for item in data_source) + 1

    @staticmethod
    def get_lab2cname(data_source: Iterable[Datum]) -> tuple[dict[int, str], list[str]]:
        """Return the class names as a dict by label and as a list in the order of the labels."""
        mapping = {item.label: item.classname for item in data_source}
        mapping = {label: mapping[label] for label in sorted(mapping)}
        return mapping, list(mapping.values())

    def download_data(self, url: str, dst: str, from_gdrive: bool = True) -> NoReturn:
        """Raise a UsageError: datasets are not downloaded while they are read."""
        raise UsageError(
            f"{type(self).__name__} calls download_data, which is not supported: download {url} "
            f"and unpack it in the folder of {dst}"
        )

    def check_input_domains(
        self, source_domains: Iterable[str], target_domains: Iterable[str]
    ) -> None:
        """Raise a UsageError unless all these domains belong to the dataset."""
        self.is_input_domain_valid(source_domains)
        self.is_input_domain_valid(target_domains)

    def is_input_domain_valid(self, input_domains: Iterable[str]) -> None:
        for domain in input_domains:
            if domain not in self.domains:
                raise UsageError(
                    f"{type(self).__name__} has no domain {domain!r}: {nearest(domain, self.domains)}"
                )

    def generate_fewshot_dataset(
        self, *data_sources: Sequence[Datum], num_shots: int = -1, repeat: bool = False
    ) -> list[Any]:
        """Sample ``num_shots`` images per class from each source with Python's ``random``.

        Classes are in the order of their first image. A class with fewer images keeps all of them,
        in their order, or repeats some if ``repeat``. ``num_shots`` < 1 keeps all images. The
        samples equal those of the original Dassl.

        Returns:
            A list for one source, a list of lists for several.
        """
        if num_shots < 1:
            output = [list(source) for source in data_sources]
        else:
            output = [self._sample(source, num_shots, repeat) for source in data_sources]
        return output[0] if len(output) == 1 else output

    def _sample(self, source: Sequence[Datum], num_shots: int, repeat: bool) -> list[Datum]:
        groups = self.split_dataset_by_label(source)
        sampled: list[Datum] = []
        for items in groups.values():
            if len(items) >= num_shots:
                sampled += random.sample(items, num_shots)
            else:
                sampled += random.choices(items, k=num_shots) if repeat else items
        short = sum(len(items) < num_shots for items in groups.values())
        kept = "repeated" if repeat else "all kept"
        note = f" ({short} of {len(groups)} classes have fewer images: {kept})" if short else ""
        print(f"Creating a {num_shots}-shot dataset{note}")
        return sampled

    @staticmethod
    def split_dataset_by_label(data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Return the images of each label, labels in the order of their first image."""
        return _group(data_source, "label")

    @staticmethod
    def split_dataset_by_domain(data_source: Iterable[Datum]) -> dict[int, list[Datum]]:
        """Return the images of each domain, domains in the order of their first image."""
        return _group(data_source, "domain")


def _group(data_source: Iterable[Datum], attribute: str) -> dict[int, list[Datum]]:
    groups: dict[int, list[Datum]] = {}
    for item in data_source:
        groups.setdefault(getattr(item, attribute), []).append(item)
    return groups
