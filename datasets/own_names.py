"""classnames.json: readable names of the classes of your own images.

{"n01440764": "tench", "blue_tit_adult": "blue tit"}
"""

import os
from typing import Annotated

from msgspec import Meta

from dassl.data.datasets import Datum
from dassl.utils import UsageError, nearest
from dassl.utils.schema import read_checked

from .text import shown

NAMES_FILE = "classnames.json"
Name = Annotated[str, Meta(min_length=1)]


def rename_classes(splits: dict[str, list[Datum]], folder: str) -> dict[str, list[Datum]]:
    """Return the images with the names of ``folder``/classnames.json; without it, as they are.

    Its keys are class names in ``splits``; classes that it leaves out keep their name.

    Raises:
        UsageError: the file has another form, or names a class that there is not.
    """
    path = os.path.join(folder, NAMES_FILE)
    if not os.path.isfile(path):
        return splits
    names = read_checked(
        path, dict[Name, Name], 'it must be like {"folder of a class": "name to be read"}'
    )
    classes = sorted({item.classname for items in splits.values() for item in items})
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise UsageError(
            f"{path} names {shown(unknown[0])!r}, which is not a class of {folder}: "
            f"{nearest(unknown[0], classes)}"
        )
    print(f"Class names from {path}: {len(names)} of {len(classes)} classes are renamed")
    return {
        part: [
            Datum(i.impath, i.label, i.domain, names.get(i.classname, i.classname)) for i in items
        ]
        for part, items in splits.items()
    }
