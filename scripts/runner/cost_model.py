"""Predict the time and memory of a job from measured costs: no finished job is needed.

model = CostModel.load()
model.predict(work)     # Cost(seconds=740.0, bytes=1.9e9)

A step costs a fixed time, a time for each image and one for each class. The last two are lines
through the measurements of benchmarks/results, for ViT-B/16 on a CPU; other backbones are scaled by
the operations of their towers, other CPUs by the number of cores. Costs of a GPU have not been
measured: there only memory is predicted, until a finished run tells the time.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from dassl.utils.schema import Count, Record, read_checked

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks/results/amd-epyc-2-threads-full.json"
STEP = 0.06  # seconds of a training step without any image or class (Critters, 2 cores)
LOAD = 0.001  # seconds to read an image of 64 x 64 pixels (Critters)
PHOTO = 0.010  # and one of about 500 x 400 pixels, which are then resized
TEST_BATCH = 100
BASE_BYTES = 0.8 * 2**30  # of Python and PyTorch before a model is loaded
BUFFERS = 8  # tensors of an image tower's width that a forward pass has at once


class Towers(NamedTuple):
    """Sizes of a CLIP."""

    image_gflop: float  # of one image, forward
    text: float  # operations of a prompt, as a share of ViT-B/16's
    parameters: float
    layers: int  # of the image tower
    tokens: int  # of an image
    width: int
    side: int  # pixels of an image

    @property
    def activations(self) -> int:
        """Numbers that a training step keeps of an image, up to a factor."""
        return self.layers * self.tokens * self.width


def _vit(layers: int, width: int, tokens: int) -> float:
    """Return the GFLOP of a vision transformer: products with weights, and attention."""
    return 2e-9 * layers * (12 * width**2 * tokens + 2 * tokens**2 * width)


TOWERS = {
    "ViT-B/16": Towers(_vit(12, 768, 197), 1.0, 149.6e6, 12, 197, 768, 224),
    "ViT-B/32": Towers(_vit(12, 768, 50), 1.0, 151.3e6, 12, 50, 768, 224),
    "ViT-L/14": Towers(_vit(24, 1024, 257), 2.25, 427.6e6, 24, 257, 1024, 224),
    "ViT-L/14@336px": Towers(_vit(24, 1024, 577), 2.25, 427.9e6, 24, 577, 1024, 336),
    "RN50": Towers(12.2, 1.0, 102.0e6, 16, 50, 2048, 224),
    "RN101": Towers(19.6, 1.0, 119.7e6, 33, 50, 2048, 224),
    "critters-vit-t": Towers(_vit(4, 128, 65), 0.003, 1.0e6, 4, 65, 128, 64),
    "critters-vit-s": Towers(_vit(6, 128, 65), 0.003, 1.4e6, 6, 65, 128, 64),
}
REFERENCE = TOWERS["ViT-B/16"]
PER_IMAGE_TEXT = ("CoCoOp", "TextRefinerCoCoOp")  # their prompts differ between images
THROUGH_IMAGES = ("MaPLe", "PromptSRC", "PromptKD")  # they train prompts of the image tower
ALIASES = {"TextRefiner": "TextRefinerCoOp", "ZeroshotCLIP": "CoOp", "ZeroshotCLIP2": "CoOp"}
# Learners that encode as CoOp does, up to a few tokens, and were not measured themselves.
LIKE_COOP = ("KgCoOp", "TCP", "ATPrompt")
ALIASES |= {f"{twin}{name}": f"{twin}CoOp" for name in LIKE_COOP for twin in ("", "TextRefiner")}
# They encode the class names once, so CoOp is an upper bound.
TEXT_ONCE = ("CLIPAdapter", "TaskRes")
ALIASES |= {f"{twin}{name}": f"{twin}CoOp" for name in TEXT_ONCE for twin in ("", "TextRefiner")}
# A learner that trains tokens in both encoders as MaPLe does, and was not measured itself.
ALIASES |= {"MMRL": "MaPLe", "TextRefinerMMRL": "TextRefinerMaPLe"}


class Work(Record, frozen=True):
    """What a job computes."""

    trainer: str
    backbone: str
    classes: Count
    train_images: Count  # 0: nothing is trained
    test_images: Count
    epochs: Count
    batch: Annotated[int, Meta(ge=1, lt=2**53)]

    @property
    def steps(self) -> int:
        """Training steps; an incomplete batch is dropped unless it is the only one."""
        if not self.train_images:
            return 0
        return self.epochs * max(1, self.train_images // self.batch)


@dataclass(frozen=True)
class Cost:
    """A prediction; ``seconds`` is None where nothing was measured."""

    seconds: float | None
    bytes: float  # of the host's memory, or of the GPU's


class _Row(Record):
    what: str
    fast: float
    images: int = 0
    classes: int = 0


class _Memory(Record):
    what: str
    fast: float


class _Startup(Record):
    seconds: float
    step: float


class _Machine(Record):
    threads: int


class _Measured(Record):
    rows: list[_Row]
    memory: list[_Memory]
    startup: list[_Startup]
    machine: _Machine


class Line(NamedTuple):
    """Seconds of a batch on ViT-B/16: ``images`` for each image and ``classes`` for each class."""

    images: float
    classes: float


class CostModel:
    """The measured costs, by trainer."""

    def __init__(self, measured: _Measured) -> None:
        self.startup = measured.startup[0].seconds - measured.startup[0].step
        self.threads = measured.machine.threads
        self._lines = {
            (name, kind): fit
            for name in {row.what.split()[0] for row in measured.rows}
            for kind in ("train step", "test")
            if (fit := _fit(measured.rows, f"{name} {kind}, "))
        }
        self._bytes = {
            row.what.split(",")[0]: row.fast
            for row in measured.memory
            if ", 100 classes" in row.what
        }

    @classmethod
    def load(cls, path: Path = MEASURED) -> "CostModel":
        """Read the measurements; raise UsageError if the file is missing or damaged."""
        return cls(read_checked(path, _Measured, "restore it, or run python -m benchmarks.bench"))

    def knows(self, trainer: str, backbone: str) -> bool:
        """Whether costs of the trainer and sizes of the backbone are known."""
        return backbone in TOWERS and (ALIASES.get(trainer, trainer), "test") in self._lines

    def predict(self, work: Work, gpu: bool, cores: int) -> Cost:
        """Return the cost on a CPU with ``cores``, or the memory on a GPU."""
        name, towers = ALIASES.get(work.trainer, work.trainer), TOWERS[work.backbone]
        memory = self._memory(name, work, towers)
        return Cost(None, memory) if gpu else Cost(self.cpu_seconds(work, cores), memory)

    def cpu_seconds(self, work: Work, cores: int) -> float:
        """Return the seconds on a CPU with ``cores``."""
        name, towers = ALIASES.get(work.trainer, work.trainer), TOWERS[work.backbone]
        load = LOAD if towers.side <= 64 else PHOTO
        total = self.startup
        batches = -(-work.test_images // TEST_BATCH)
        for kind, count, size in (
            ("train step", work.steps, min(work.batch, work.train_images)),
            ("test", batches, min(TEST_BATCH, work.test_images)),
        ):
            if not count:
                continue
            line = self._lines[name, kind]
            text = line.classes * work.classes * towers.text
            text *= size if name in PER_IMAGE_TEXT else 1
            image = line.images * size * towers.image_gflop / REFERENCE.image_gflop
            computed = (image + text) * self.threads / cores
            total += count * (STEP + size * load / cores + computed)
        return total

    def _memory(self, name: str, work: Work, towers: Towers) -> float:
        kept = 0.0
        if work.train_images:  # measured with 100 classes and batches of 4, of CoCoOp 1
            kept = work.classes / 100 * towers.text
            if name in PER_IMAGE_TEXT:
                kept *= work.batch
            if name.removeprefix("TextRefiner") in THROUGH_IMAGES:
                kept += work.batch / 4 * towers.activations / REFERENCE.activations
            kept *= self._bytes[name]
        forward = TEST_BATCH * towers.tokens * towers.width * 4 * BUFFERS
        return BASE_BYTES + 4 * towers.parameters + max(kept, forward)


def _fit(rows: Sequence[_Row], prefix: str) -> Line | None:
    """Return the line through the seconds of the rows that begin with ``prefix``."""
    found = [row for row in rows if row.what.startswith(prefix) and "bf16" not in row.what]
    if len({row.classes for row in found}) < 2:
        return None
    size = min(row.images for row in found)
    found = [row for row in found if row.images == size]
    x, y = [row.classes for row in found], [row.fast for row in found]
    center, height = fmean(x), fmean(y)
    spread = sum((a - center) ** 2 for a in x)
    slope = sum((a - center) * (b - height) for a, b in zip(x, y, strict=True)) / spread
    slope = max(slope, 0.0)
    return Line(max(height - slope * center, 0.0) / size, slope / size if size == 1 else slope)


def uses_gpu(settings: Mapping[str, Any]) -> bool:
    """Whether train.py would find a GPU; PyTorch is not asked, because its import is slow."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1")
    return bool(settings.get("USE_CUDA", True)) and visible and bool(shutil.which("nvidia-smi"))


@dataclass(frozen=True)
class Accuracy:
    """How well the model predicted finished runs on the same kind of device.

    ``factor`` is the median of measured by predicted seconds, and ``errors`` are the relative
    errors of the runs after predictions are multiplied by it.
    """

    factor: float
    errors: Sequence[float]

    def __str__(self) -> str:
        runs = f"{len(self.errors)} finished run{'s' if len(self.errors) > 1 else ''}"
        return (
            f"times multiplied by {self.factor:.2g} to fit {runs}, error {median(self.errors):.0%} "
            f"(median), {max(self.errors):.0%} (largest)"
        )


def compare(pairs: Sequence[tuple[float, float]]) -> Accuracy | None:
    """Return the accuracy on (measured, predicted) seconds; None without any."""
    if not pairs:
        return None
    factor = median(measured / predicted for measured, predicted in pairs)
    errors = [abs(predicted * factor / measured - 1) for measured, predicted in pairs]
    return Accuracy(factor, errors)
