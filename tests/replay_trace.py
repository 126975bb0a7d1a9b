"""A recorded training run as arrays and images, and deviations from it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dassl.data.datasets import Datum


class Deviations:
    """The largest absolute deviation of each quantity, and its limit.

    Args:
        limits: by name.
        relative: names of deviations that are relative to the recorded value.
        share: limit of everything else (features, gradients, running variance), as a share of its
            largest value, at least of 1.
    """

    def __init__(self, limits: dict[str, float], relative: Sequence[str], share: float) -> None:
        self.limits = limits
        self.relative = relative
        self.share = share
        self.rows: dict[str, dict[str, float]] = {}
        self.step = 0  # the current step, if known

    def add(self, name: str, actual: Any, recorded: Any) -> None:
        """Compare a recorded value; shapes must match except for the 1x1 of a convolution."""
        if isinstance(actual, torch.Tensor):
            actual = actual.detach().double().cpu().numpy()
        recorded = np.asarray(recorded, dtype=np.float64)
        actual = np.asarray(actual, dtype=np.float64).reshape(recorded.shape)
        if name in self.relative:
            actual, recorded = actual / recorded, np.ones_like(recorded)
        other = self.share * max(1.0, float(np.abs(recorded).max(initial=0)))
        limit = self.limits.get(name, other)
        row = self.rows.setdefault(name, {"max_abs": 0.0, "limit": limit})
        row["max_abs"] = max(row["max_abs"], float(np.abs(actual - recorded).max(initial=0)))
        row["limit"] = max(row["limit"], limit)

    @property
    def passed(self) -> bool:
        """Return whether every quantity is within its limit (NaN is not)."""
        return all(row["max_abs"] <= row["limit"] for row in self.rows.values())


class Trace:
    """A recorded run: arrays by name, and its settings."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))
        self.settings = json.loads(str(self.arrays["hparams"]))
        self.classnames = [str(name) for name in self.arrays["classnames"]]

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def tensor(self, key: str) -> torch.Tensor:
        """Return a recorded array as a tensor."""
        return torch.from_numpy(np.array(self.arrays[key]))

    def below(self, prefix: str) -> dict[str, np.ndarray]:
        """Return arrays by the rest of their name after ``prefix``."""
        return {k[len(prefix) :]: v for k, v in self.arrays.items() if k.startswith(prefix)}

    def tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return `below` as tensors."""
        return {key: torch.from_numpy(np.array(value)) for key, value in self.below(prefix).items()}

    def write_images(self, group: str, folder: Path, first_class: int = 0) -> list[Datum]:
        """Write ``<group>/<i>/img_uint8`` as PNG files; labels start at a given class."""
        items = []
        count = len({key.split("/")[0] for key in self.below(f"{group}/")})
        for batch in range(count):
            labels = self[f"{group}/{batch}/label"]
            for i, (image, label) in enumerate(
                zip(self[f"{group}/{batch}/img_uint8"], labels, strict=True)
            ):
                path = folder / f"{group.replace('/', '_')}_{batch}_{i:03d}.png"
                Image.fromarray(image.transpose(1, 2, 0)).save(path)
                number = first_class + int(label)
                name = self.classnames[number]
                items.append(Datum(impath=str(path), label=number, classname=name))
        return items
