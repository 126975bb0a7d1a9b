"""Base class of the datasets: find the files, sample shots, select base or new classes."""

import os
import random
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UsageError

from .cache import check_shots, find_images, load_pickle, save_pickle
from .download.sources import load_origins
from .locks import remove_temporaries, writing
from .split import PARTS, check_splits, read_split, save_split, split_trainval, subsample_classes
from .text import shown
from .unlabeled import ClassGroup, unlabeled, uses_all_classes

MIRROR = "https://huggingface.co/zhengli97/prompt_learning_dataset"
Splits = dict[str, list[Datum]]
NAMED_CLASSES = 10  # in a warning


def shots_of(part: str, shots: int) -> int:
    """Return the number of images per class that a split keeps, as in CoOp."""
    return shots if part == "train" else min(shots, 4)


def few_images(images: Sequence[Datum], shots: int) -> str:
    """Return which classes have fewer than ``shots`` images, or "".

    The first NAMED_CLASSES of them are named.
    """
    counts = Counter(item.label for item in images)
    names = {item.label: item.classname for item in images}
    few = [f"{shown(names[i])} {counts[i]}" for i in sorted(counts) if counts[i] < shots]
    if not few:
        return ""
    more = f" and {len(few) - NAMED_CLASSES} more" if len(few) > NAMED_CLASSES else ""
    return (
        f"{len(few)} of {len(counts)} classes have fewer training images, which are all used: "
        f"{', '.join(few[:NAMED_CLASSES])}{more}"
    )


@dataclass(frozen=True)
class Counts:
    """Numbers of classes and images of the official dataset; None for a split it lacks."""

    classes: int
    train: int | None = None
    val: int | None = None
    test: int | None = None

    def __str__(self) -> str:
        numbers = " / ".join("-" if n is None else f"{n:,}" for n in astuple(self)[1:])
        return f"{self.classes:,} classes and {numbers} train / val / test images"


class SplitDataset(DatasetBase):
    """A folder of images with a split file.

    A subclass sets the attributes below; if its split is given by other files, it overrides
    :meth:`read_splits`. Config keys: DATASET.ROOT, NUM_SHOTS (< 1: all images),
    SUBSAMPLE_CLASSES (all, base, new), SEED, DISTILL_ON (datasets/unlabeled.py).
    """

    image_dir = ""  # folder below dataset_dir; in an instance, both are absolute paths
    split_file = ""  # name of the split file in dataset_dir
    images_url = ""  # download addresses for error messages
    split_url = ""
    mirror = MIRROR
    counts: Counts | None = None  # size of the official dataset
    base_test: int | None = None  # number of test images of its base classes
    class_groups: Mapping[str, ClassGroup] = {}  # split -> classes of its images; empty: all
    val_is_test = False  # whether the validation images are taken from the test split

    read_split = staticmethod(read_split)
    save_split = staticmethod(save_split)
    split_trainval = staticmethod(split_trainval)
    subsample_classes = staticmethod(subsample_classes)

    def __init__(self, cfg: CfgNode) -> None:
        self.name = type(self).__name__
        self.warnings = []
        self.root = cfg.DATASET.ROOT
        # Nothing is read from, or drawn into, the working folder by accident.
        if not self.root.strip() or "\0" in self.root:
            raise UsageError(
                f"DATASET.ROOT (--root) is {self.root!r}: set it to the folder that contains your "
                "datasets, or '.' for the current one"
            )
        root = os.path.abspath(os.path.expanduser(self.root))
        self.dataset_dir = os.path.normpath(os.path.join(root, self.dataset_dir))
        self.image_dir = os.path.normpath(os.path.join(self.dataset_dir, self.image_dir))
        self.prepare()
        splits = self.read_splits()
        found = Counts(check_splits(self.name, splits), **{k: len(v) for k, v in splits.items()})
        if self.counts is not None and found != self.counts:
            print(
                f"warning: {self.name} has {found}, but the official dataset has {self.counts}: "
                "results are not comparable with published ones"
            )
        if cfg.DATASET.NUM_SHOTS >= 1:
            splits |= self.sample_shots(splits, cfg.DATASET.NUM_SHOTS, cfg.SEED)
        if uses_all_classes(cfg):
            splits, self.class_groups = unlabeled(splits, cfg.TRAINER.get("MODAL", "base2novel"))
            self.val_is_test = True
            print(
                f"DATASET.DISTILL_ON all: {len(splits['train']):,} unlabeled images of all classes"
            )
        subsample = cfg.DATASET.get("SUBSAMPLE_CLASSES", "all")  # a key that CoOp adds
        # The classes of a test-only dataset are those of its test images.
        labeled = splits.get("train", splits["test"])
        _, self.all_classnames = self.get_lab2cname(labeled)
        train, val, test = subsample_classes(
            labeled, splits.get("val", []), splits["test"], subsample=subsample
        )
        if "train" in splits and (few := few_images(train, cfg.DATASET.NUM_SHOTS)):
            self.warnings.append(f"DATASET.NUM_SHOTS is {cfg.DATASET.NUM_SHOTS}, but {few}")
            print(f"warning: {self.warnings[-1]}")
        if subsample == "base" and self.base_test not in (None, len(test)):
            print(
                f"warning: the base classes of {self.name} have {len(test):,} test images, "
                f"those of the official dataset {self.base_test:,}"
            )
        super().__init__(train_x=train, val=val, test=test)

    def prepare(self) -> None:
        """Create the dataset's files if needed; called before any file is read."""

    def read_splits(self) -> Splits:
        """Return the images of "train", "val" and "test"; the first two are optional."""
        self.require_folder(self.image_dir)
        split_path = os.path.join(self.dataset_dir, self.split_file)
        self.require_file(split_path, self.split_url)
        hint = f"download the images again from {self.sources}"
        return dict(zip(PARTS, self.read_split(split_path, self.image_dir, hint), strict=True))

    @property
    def sources(self) -> str:
        """Download addresses of the images."""
        return " or ".join(url for url in (self.images_url, self.mirror) if url)

    @property
    def fetch_hint(self) -> str:
        """The command that fetches the dataset, for error messages; empty if there is none."""
        name = type(self).__module__.rpartition(".")[2]
        known = name in load_origins()
        return (
            f", or run python -m datasets fetch {name} --root {shlex.quote(self.root)}"
            if known
            else ""
        )

    def require_folder(self, folder: str) -> None:
        """Raise a UsageError with the download addresses unless ``folder`` exists."""
        if os.path.isdir(folder):
            return
        if os.path.exists(folder):
            raise UsageError(
                f"{self.name}: {folder} is a file, but must be the folder of its images: get them "
                f"from {self.sources} and unpack them to that path"
            )
        parent = os.path.dirname(folder)
        found = ", ".join(sorted(os.listdir(parent))[:5]) if os.path.isdir(parent) else ""
        raise UsageError(
            f"{self.name}: there is no image folder {shown(folder)}"
            f"{f' ({parent} contains: {found})' if found else ''}: get the images from "
            f"{self.sources} and unpack them to that path{self.fetch_hint}, or set DATASET.ROOT "
            f"(--root), now {self.root!r}, to the folder that contains your datasets"
        )

    def require_file(self, path: str, url: str) -> None:
        """Raise a UsageError with the download address unless ``path`` exists."""
        if not os.path.isfile(path):
            raise UsageError(
                f"{self.name}: there is no file {path}: get it from {url} and put it at that path"
                f"{self.fetch_hint} (a random split would not be comparable with published results)"
            )

    def sample_shots(self, splits: Splits, shots: int, seed: int) -> Splits:
        """Return ``shots`` training and at most 4 validation images per class.

        The sample depends on the seed alone and equals that of the original Dassl. It is cached in
        a pickle that the original can read. With a negative seed, every run samples its own images
        and there is no pickle. A class with fewer images keeps all of them, with a warning.
        """
        sources: Splits = {part: splits[part] for part in ("train", "val") if part in splits}
        if not sources:
            print(f"{self.display_name} is a test set: NUM_SHOTS {shots} is not used")
            return {}
        if seed < 0:
            return self._sample_parts(sources, shots)
        folder = os.path.join(self.dataset_dir, "split_fewshot")
        cache = os.path.join(folder, f"shot_{shots}-seed_{seed}.pkl")
        if not os.path.exists(cache):
            lock = os.path.join(folder, "sampling.lock")
            with writing(lock, "samples few-shot images", unless_read_only=True) as locked:
                if locked:
                    remove_temporaries(folder)
                if not os.path.exists(cache):  # another process may have written it by now
                    return self._draw_shots(cache, sources, shots, seed)
        return self._load_shots(cache, sources, shots)

    def _draw_shots(self, cache: str, splits: Splits, shots: int, seed: int) -> Splits:
        state = random.getstate()  # restored, so that a run which loads the pickle continues alike
        random.seed(seed)
        try:
            sampled = self._sample_parts(splits, shots)
        finally:
            random.setstate(state)
        print(f"Saving preprocessed few-shot data to {cache}")
        save_pickle(cache, sampled)
        return sampled

    def _sample_parts(self, splits: Splits, shots: int) -> Splits:
        """Sample with Python's ``random``, training images first."""
        return {
            part: self.generate_fewshot_dataset(
                self.sampling_order(items), num_shots=shots_of(part, shots)
            )
            for part, items in splits.items()
        }

    def sampling_order(self, items: list[Datum]) -> list[Datum]:
        """Return the images in the order that the sample depends on: that of the split."""
        return items

    def _load_shots(self, cache: str, splits: Splits, shots: int) -> Splits:
        print(f"Loading preprocessed few-shot data from {cache}")
        cached = load_pickle(cache, sum(map(len, splits.values())))
        sampled: Splits = {}
        try:
            for part, items in splits.items():
                sampled[part] = find_images(cached.get(part, []), items, self.image_dir)
                check_shots(sampled[part], items, shots_of(part, shots))
        except LookupError as error:
            raise UsageError(
                f"{cache} does not fit the split of {self.display_name} ({error}): it was sampled "
                "from another split, or images are missing; delete it to sample again"
            ) from error
        before, now = shown(cached["train"][0].impath), sampled["train"][0].impath
        if before != now:
            print(f"The data folder has moved since that file was written: {before} is now {now}")
        return sampled
