"""ImageNet's training and validation images, from the archives that the user has downloaded.

The archives need a login, so they are never fetched. The images of the validation archive are not
in class folders; their classes are in the official devkit, or in any text file with lines that
name an image and a WordNet id: LOC_val_solution.csv of Kaggle, or valprep.sh.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path

from dassl.utils import UsageError

from .errors import FetchError
from .place import find, merge
from .sources import Source
from .unpack import unpack, unpacked
from .verify import verify

ARCHIVES = {
    "train": Source(
        url="https://image-net.org/challenges/LSVRC/2012/",
        name="ILSVRC2012_img_train.tar",
        md5="1d675b47d978889d74fa0da5fadfb00e",
    ),
    "val": Source(
        url="https://image-net.org/challenges/LSVRC/2012/",
        name="ILSVRC2012_img_val.tar",
        md5="29b22e2961454d5413ddabcf34fc5622",
    ),
}
DEVKIT = "ILSVRC2012_devkit_t12"
_DEVKIT_TAR = Source(
    url="https://image-net.org/challenges/LSVRC/2012/",
    name=f"{DEVKIT}.tar.gz",
    md5="fa75699e90414af021442c21a62c3abf",
)
_LABEL_FILES = ("LOC_val_solution.csv", "valprep.sh", "val_labels.txt")
_IMAGE = re.compile(r"ILSVRC2012_val_\d{8}")
_WNID = re.compile(r"\bn\d{8}\b")


def instructions(folder: Path) -> str:
    """Return what the user must put where, for a dataset's folder such as data/imagenet."""
    return (
        f"ImageNet needs a login at https://image-net.org: put {ARCHIVES['train'].name} (138 GB), "
        f"{ARCHIVES['val'].name} (6.3 GB) and {_DEVKIT_TAR.name} into {folder} and run the same "
        f"command again; or put class folders into {folder / 'images'}/train and /val. Instead of "
        f"the devkit, LOC_val_solution.csv (Kaggle) or valprep.sh gives the classes of val/"
    )


def prepare_imagenet(folder: Path) -> list[str]:
    """Unpack the archives that are in ``folder``, and sort a flat val/; return what was done.

    Raises:
        FetchError: an archive has another checksum, or the classes of val/ are not known.
    """
    done = []
    images = folder / "images"
    for part, source in ARCHIVES.items():
        archive, target = folder / source.name, images / part
        if archive.is_file() and not target.exists():
            _require(archive, source)
            with unpacked(archive, folder / ".unpacked") as content:
                if part == "train":
                    _unpack_classes(content)
                merge(content, target)
            done.append(f"{archive.name} is unpacked to {target}")
    val = images / "val"
    if val.is_dir() and any(_is_image(path) for path in val.iterdir()):
        labels = validation_classes(folder)
        done.append(f"{sort_validation(val, labels):,} images of {val} are in class folders")
    return done


def _unpack_classes(folder: Path) -> None:
    """Unpack the archive of each class into a folder of its name."""
    for path in sorted(folder.glob("n*.tar")):
        unpack(path, folder / path.stem)
        path.unlink()


def sort_validation(val: Path, labels: Mapping[str, str]) -> int:
    """Move the images of a flat val/ into class folders; return how many.

    Args:
        labels: name of an image without its suffix -> WordNet id.

    Raises:
        FetchError: an image has no label; nothing is moved then.
    """
    images = [path for path in sorted(val.iterdir()) if _is_image(path)]
    unknown = [path.name for path in images if path.stem not in labels]
    if unknown:
        raise FetchError(
            f"{len(unknown):,} of the {len(images):,} images in {val} have no class in the "
            f"label file ({', '.join(unknown[:3])}): use the file of ILSVRC 2012"
        )
    for path in images:
        merge(path, val / labels[path.stem] / path.name)
    return len(images)


def validation_classes(folder: Path) -> dict[str, str]:
    """Return the WordNet id of each validation image, from the devkit or a label file.

    Raises:
        FetchError: there is neither, or it is not readable.
    """
    archive = folder / _DEVKIT_TAR.name
    devkit = folder / DEVKIT
    if archive.is_file() and not devkit.is_dir():
        _require(archive, _DEVKIT_TAR)
        with unpacked(archive, folder / ".unpacked") as content:
            found = find(content, DEVKIT)
            merge(found if found is not None else content, devkit)
    if devkit.is_dir():
        return _read_devkit(devkit)
    for name in _LABEL_FILES:
        if (folder / name).is_file():
            return _read_labels(folder / name)
    raise FetchError(
        f"the classes of the images in {folder / 'images' / 'val'} are not known: put "
        f"{_DEVKIT_TAR.name} of image-net.org, or {' or '.join(_LABEL_FILES[:2])}, into {folder}"
    )


def _read_labels(path: Path) -> dict[str, str]:
    """Read lines that name one image and its WordNet id, in any form; others are skipped."""
    labels: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        image, wnids = _IMAGE.search(line), set(_WNID.findall(line))
        if image is None:
            continue
        if len(wnids) != 1 or labels.get(image[0], *wnids) not in wnids:
            raise FetchError(
                f"{path} has no single WordNet id for {image[0]}: use the file of ILSVRC 2012"
            )
        (labels[image[0]],) = wnids
    return labels


def _read_devkit(devkit: Path) -> dict[str, str]:
    """Read data/ILSVRC2012_validation_ground_truth.txt and the WordNet ids of data/meta.mat."""
    truth = devkit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    meta = devkit / "data" / "meta.mat"
    for path in (truth, meta):
        if not path.is_file():
            raise FetchError(f"there is no file {path}: unpack {_DEVKIT_TAR.name} again")
    wnids = _read_meta(meta)
    labels = {}
    for number, line in enumerate(truth.read_text().split(), start=1):
        if not line.isdecimal() or int(line) not in wnids:
            raise FetchError(f"line {number} of {truth} is {line!r}, not a class of {meta}")
        labels[f"ILSVRC2012_val_{number:08d}"] = wnids[int(line)]
    return labels


def _read_meta(path: Path) -> dict[int, str]:
    """Return {ILSVRC2012_ID: WordNet id} of the classes without children."""
    import scipy.io

    content = io.BytesIO(path.read_bytes())
    try:
        synsets = scipy.io.loadmat(content, squeeze_me=True)["synsets"]
        return {
            int(row["ILSVRC2012_ID"]): str(row["WNID"])
            for row in synsets
            if int(row["num_children"]) == 0
        }
    except Exception as error:  # an arbitrary file can make the reader raise anything
        raise FetchError(f"{path} cannot be read ({error}): unpack the devkit again") from error


def _require(archive: Path, source: Source) -> None:
    try:
        verify(archive, source)
    except UsageError as error:
        raise FetchError(
            f"{archive} is not the official archive ({error}): get it again"
        ) from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() == ".jpeg" and path.is_file()
