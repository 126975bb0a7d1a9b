"""Trainers on toy data and a toy CLIP, the whole way through the config and the registry."""

from pathlib import Path
from typing import Any

import torch

import datasets
import trainers
from dassl.config import get_cfg_default, merge_opts
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.toy import save_toy_clip
from tests.toy_data import CALTECH_CLASSES, caltech101

REGISTERED = (trainers, datasets)

# One line a trainer: its name and its config node. A learner added here gets every generic test.
TEST_CASES = [
    ("CoOp", "COOP"),
    ("TextRefinerCoOp", "COOP"),
    ("TextRefiner", "COOP"),
    ("CoCoOp", "COCOOP"),
    ("TextRefinerCoCoOp", "COCOOP"),
    ("MaPLe", "MAPLE"),
    ("TextRefinerMaPLe", "MAPLE"),
    ("PromptSRC", "PROMPTSRC"),
    ("TextRefinerPromptSRC", "PROMPTSRC"),
    ("PromptKD", "PROMPTKD"),
    ("TextRefinerPromptKD", "PROMPTKD"),
]

# What a node needs on a CLIP of 3 blocks and in a run of 3 epochs.
TOY_OPTIONS: dict[str, dict[str, Any]] = {
    "MAPLE": {"PROMPT_DEPTH": 3},
    "PROMPTSRC": {
        "PROMPT_DEPTH_VISION": 3,
        "PROMPT_DEPTH_TEXT": 3,
        "GPA_MEAN": 2,
    },
    "PROMPTKD": {"PROMPT_DEPTH_VISION": 3, "KD_WEIGHT": 20.0},
}

# Other widths and depths than the student's.
TEACHER_SIZES = {"embed_dim": 48, "text_width": 128, "vision_width": 128, "seed": 7}


def save_teacher(path: Path) -> Path:
    """A checkpoint of PromptSRC's prompts: 3 text tokens in 2 blocks, 2 visual ones in 3."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"prompt_learner.ctx": 3, "text_encoder.transformer.resblocks.1.VPT_shallow": 3}
    shapes |= {"image_encoder.VPT": 2}
    shapes |= {f"image_encoder.transformer.resblocks.{i}.VPT_shallow": 2 for i in (1, 2)}
    state = {key: torch.randn(n, 128, generator=generator) * 0.1 for key, n in shapes.items()}
    torch.save({"state_dict": state, "epoch": 20}, path)
    return path


class ToyWorld:
    """A folder with a dataset of 6 classes and the weights of a CLIP, and runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = str(folder / "clip.pt")
        self.teacher_clip = str(folder / "teacher_clip.pt")
        self.teacher = str(folder / "teacher.pth.tar")
        self.classnames = [name for _, name in CALTECH_CLASSES[:6]]
        if not (folder / "data").exists():  # a world that another process has made is used
            save_toy_clip(self.clip)
            save_toy_clip(self.teacher_clip, **TEACHER_SIZES)
            save_teacher(Path(self.teacher))
            caltech101(folder / "data", classes=6, train=8, val=4, test=4)

    def cfg(self, trainer: str, output: Path, *opts: Any) -> Any:
        """A frozen config: 3 epochs on 4 shots of the base classes; ``opts`` override."""
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        values = {
            "OUTPUT_DIR": str(output),
            "SEED": 1,
            "USE_CUDA": False,
            "TRAINER.NAME": trainer,
            "MODEL.BACKBONE.NAME": self.clip,
            "DATASET.ROOT": str(self.folder / "data"),
            "DATASET.NAME": "Caltech101",
            "DATASET.NUM_SHOTS": 4,
            "DATASET.SUBSAMPLE_CLASSES": "base",
            "DATASET.DISTILL_ON": "few_shot",
            "DATALOADER.NUM_WORKERS": 0,
            "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
            "DATALOADER.TEST.BATCH_SIZE": 5,
            "INPUT.SIZE": (32, 32),
            "INPUT.INTERPOLATION": "bicubic",
            "INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "normalize"),
            "OPTIM.NAME": "sgd",
            "OPTIM.LR": 0.02,
            "OPTIM.MAX_EPOCH": 3,
            "OPTIM.LR_SCHEDULER": "cosine",
            "OPTIM.WARMUP_EPOCH": 1,
            "OPTIM.WARMUP_TYPE": "constant",
            "OPTIM.WARMUP_CONS_LR": 1e-5,
            "TEST.NO_TEST": True,
            "TRAINER.PROMPTKD.TEACHER_NAME": self.teacher_clip,
            "TRAINER.PROMPTKD.TEACHER_WEIGHTS": self.teacher,
        }
        for node, options in TOY_OPTIONS.items():
            values |= {f"TRAINER.{node}.{key}": value for key, value in options.items()}
        merge_opts(cfg, [part for pair in values.items() for part in pair])
        merge_opts(cfg, opts)
        cfg.freeze()
        return cfg

    def build(self, trainer: str, output: Path, *opts: Any) -> Any:
        """A trainer as train.py builds it."""
        cfg = self.cfg(trainer, output, *opts)
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    def trained(self, trainer: str, output: Path, *opts: Any) -> Any:
        """A trainer that has trained."""
        built = self.build(trainer, output, *opts)
        built.train()
        return built


def learned(trainer: Any) -> dict[str, Any]:
    """A copy of everything that a trainer trained, by name."""
    return {
        f"{name}.{key}": value.clone()
        for name, module in trainer.model.trainable_modules().items()
        for key, value in module.state_dict().items()
    }
