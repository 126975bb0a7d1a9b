"""Inputs of the benchmarks: CLIPs of the real sizes with random weights, images and trainers."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import datasets
import trainers
from clip.model import CLIP
from dassl.config import get_cfg_default, merge_opts
from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.engine import build_trainer
from dassl.utils import set_random_seed

__all__ = ["CONTEXT", "SIZES", "TOY", "World", "class_names", "quiet", "write_images"]

_REGISTERED = (datasets, trainers)  # imported for their registrations

# embed_dim, image_resolution, vision layers, width, patch, context, vocabulary, text width, heads,
# layers: the arguments of `clip.model.CLIP`.
SIZES: dict[str, tuple[int, ...]] = {
    "ViT-B/16": (512, 224, 12, 768, 16, 77, 49408, 512, 8, 12),
    "ViT-L/14": (768, 224, 24, 1024, 14, 77, 49408, 768, 12, 12),
}
# Small models for tests of the benchmarks themselves.
TOY: dict[str, tuple[int, ...]] = {
    "ViT-B/16": (64, 32, 3, 64, 8, 77, 49408, 64, 1, 3),
    "ViT-L/14": (128, 32, 3, 128, 8, 77, 49408, 128, 2, 3),
}
CONTEXT = "a photo of a"


def quiet() -> contextlib.redirect_stdout[io.StringIO]:
    """Return a context in which nothing is printed."""
    return contextlib.redirect_stdout(io.StringIO())


def class_names(count: int) -> list[str]:
    """Return ``count`` class names of ImageNet, repeated from the first beyond 1000."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

    return [IMAGENET_CLASSNAMES[i % len(IMAGENET_CLASSNAMES)] for i in range(count)]


def write_images(folder: Path, count: int, height: int = 375) -> Path:
    """Make ``folder`` with ``count`` JPEG files of smooth noise, 4/3 ``height`` x ``height``."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for i in range(count):
        coarse = torch.from_numpy(generator.random((1, 3, 12, 16), dtype=np.float32))
        large = F.interpolate(coarse, (height, 4 * height // 3), mode="bicubic")[0]
        pixels = (large.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i:05}.jpg", quality=90)
    return folder


@DATASET_REGISTRY.register()
class BenchmarkImages(DatasetBase):
    """All JPEG files of DATASET.ROOT with labels of DATASET.CLASSES classes in turn.

    The test split contains each file once; the training split repeats files until every class and
    a few batches are covered.
    """

    def __init__(self, cfg: Any) -> None:
        names = class_names(cfg.DATASET.CLASSES)
        files = sorted(str(path) for path in Path(cfg.DATASET.ROOT).glob("*.jpg"))
        items = [
            Datum(files[i % len(files)], i % len(names), 0, names[i % len(names)])
            for i in range(max(len(names), len(files), 64))
        ]
        super().__init__(train_x=items, val=items[:1], test=items[: len(files)])


class World:
    """A folder (1.2 GB) with weights, images and a teacher, and the trainers that use them."""

    def __init__(self, folder: Path, sizes: dict[str, tuple[int, ...]], cuda: bool) -> None:
        self.folder = folder
        self.sizes = sizes
        self.cuda = cuda
        self.side = sizes["ViT-B/16"][1]
        self.device = torch.device("cuda" if cuda else "cpu")

    def weights(self, name: str) -> Path:
        """Return the file of a CLIP with random fp16 weights; create it on first use."""
        path = self.folder / f"{name.replace('/', '-')}.pt"
        if not path.exists():
            torch.manual_seed(0)
            state = CLIP(*self.sizes[name]).state_dict()  # type: ignore[arg-type]
            torch.save({key: value.half() for key, value in state.items()}, path)
        return path

    def clip(self, name: str = "ViT-B/16") -> Any:
        """Return a frozen CLIP on the device, in float32."""
        model = CLIP(*self.sizes[name])  # type: ignore[arg-type]
        model.load_state_dict(torch.load(self.weights(name)))
        return model.float().eval().requires_grad_(False).to(self.device)

    def _teacher(self) -> Path:
        """Return a checkpoint of a PromptSRC teacher: 4 + 4 prompts in up to 9 blocks."""
        path = self.folder / "teacher.pth.tar"
        if not path.exists():
            generator = torch.Generator().manual_seed(0)
            _, _, blocks, vision, *_, text, _, _ = self.sizes["ViT-L/14"]
            widths = {"prompt_learner.ctx": text, "image_encoder.VPT": vision}
            for block in range(1, min(9, blocks)):
                key = f"transformer.resblocks.{block}.VPT_shallow"
                widths |= {f"text_encoder.{key}": text, f"image_encoder.{key}": vision}
            state = {k: torch.randn(4, w, generator=generator) * 0.02 for k, w in widths.items()}
            torch.save({"state_dict": state, "epoch": 20}, path)
        return path

    def trainer(
        self, name: str, classes: int, batch: int, precision: str = "fp32", *options: Any
    ) -> Any:
        """Build a trainer as train.py does, ready for `forward_backward`, without its log."""
        if "PromptKD" in name:
            self.weights("ViT-L/14")
        images = self.folder / "images"
        if not images.exists():
            write_images(images, 16)
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.DATASET.CLASSES = classes  # read by BenchmarkImages alone
        depth = min(9, self.sizes["ViT-B/16"][2])
        values = {
            "OUTPUT_DIR": str(self.folder / "output"),
            "SEED": 1,
            "USE_CUDA": self.cuda,
            "TRAINER.NAME": name,
            "MODEL.BACKBONE.NAME": str(self.weights("ViT-B/16")),
            "DATASET.ROOT": str(images),
            "DATASET.NAME": "BenchmarkImages",
            "DATASET.DISTILL_ON": "few_shot",
            "DATALOADER.NUM_WORKERS": 2,
            "DATALOADER.TRAIN_X.BATCH_SIZE": batch,
            "DATALOADER.TEST.BATCH_SIZE": batch,
            "INPUT.SIZE": (self.side, self.side),
            "INPUT.INTERPOLATION": "bicubic",
            "INPUT.PIXEL_MEAN": [0.48145466, 0.4578275, 0.40821073],
            "INPUT.PIXEL_STD": [0.26862954, 0.26130258, 0.27577711],
            "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
            "OPTIM.NAME": "sgd",
            "OPTIM.LR": 0.002,
            "OPTIM.MAX_EPOCH": 10,
            "OPTIM.LR_SCHEDULER": "cosine",
            "TRAINER.COOP.CTX_INIT": CONTEXT,
            "TRAINER.COCOOP.CTX_INIT": CONTEXT,
            "TRAINER.MAPLE.PROMPT_DEPTH": depth,
            "TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION": depth,
            "TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT": depth,
            "TRAINER.PROMPTKD.PROMPT_DEPTH_VISION": depth,
            "TRAINER.PROMPTKD.TEACHER_NAME": str(self.folder / "ViT-L-14.pt"),
            "TRAINER.PROMPTKD.TEACHER_WEIGHTS": str(self._teacher()),
            "TRAINER.PROMPTKD.KD_WEIGHT": 1000.0,
            f"TRAINER.{name.removeprefix('TextRefiner').upper()}.PREC": precision,
        }
        merge_opts(cfg, [*(part for pair in values.items() for part in pair), *options])
        cfg.freeze()
        set_random_seed(cfg.SEED)
        with quiet():
            built = build_trainer(cfg)
        built.num_batches = 10**9  # no epoch ends
        built.set_model_mode("train")
        return built

    def batch(self, size: int, classes: int) -> dict[str, torch.Tensor]:
        """Return random images and labels, already on the device."""
        image = torch.randn(size, 3, self.side, self.side, device=self.device)
        return {"img": image, "label": torch.arange(size, device=self.device) % classes}
