"""Run trainers on toy data with a toy CLIP, through the config and the registry."""

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

# One line per trainer: its name and config node. Added learners get every generic test.
TEST_CASES = [
    ("CoOp", "COOP"),
    ("TextRefinerCoOp", "COOP"),
    ("TextRefiner", "COOP"),
    ("CoCoOp", "COCOOP"),
    ("TextRefinerCoCoOp", "COCOOP"),
    ("KgCoOp", "KGCOOP"),
    ("TextRefinerKgCoOp", "KGCOOP"),
    ("TCP", "TCP"),
    ("TextRefinerTCP", "TCP"),
    ("ATPrompt", "ATPROMPT"),
    ("TextRefinerATPrompt", "ATPROMPT"),
    ("MaPLe", "MAPLE"),
    ("TextRefinerMaPLe", "MAPLE"),
    ("PromptSRC", "PROMPTSRC"),
    ("TextRefinerPromptSRC", "PROMPTSRC"),
    ("MMRL", "MMRL"),
    ("TextRefinerMMRL", "MMRL"),
    ("CLIPAdapter", "CLIPADAPTER"),
    ("TextRefinerCLIPAdapter", "CLIPADAPTER"),
    ("TaskRes", "TaskRes"),
    ("TextRefinerTaskRes", "TaskRes"),
    ("PromptKD", "PROMPTKD"),
    ("TextRefinerPromptKD", "PROMPTKD"),
]

# Trainers with parameters of single classes, which are refused for other classes.
CLASS_BOUND = ("TaskRes", "TextRefinerTaskRes")
# Tensors of a checkpoint that training does not change.
FIXED = ("prompt_learner.base_text_features",)

# Settings that a node needs for a CLIP of 3 blocks and a run of 3 epochs.
TOY_OPTIONS: dict[str, dict[str, Any]] = {
    "TCP": {"LAYER": 1},
    "MAPLE": {"PROMPT_DEPTH": 3},
    "PROMPTSRC": {
        "PROMPT_DEPTH_VISION": 3,
        "PROMPT_DEPTH_TEXT": 3,
        "GPA_MEAN": 2,
    },
    "MMRL": {"REP_LAYERS": [2, 3], "N_REP_TOKENS": 3, "REP_DIM": 16},
    "PROMPTKD": {"PROMPT_DEPTH_VISION": 3, "KD_WEIGHT": 20.0},
}

# Widths and depths that differ from the student's.
TEACHER_SIZES = {"embed_dim": 48, "text_width": 128, "vision_width": 128, "seed": 7}


def save_teacher(path: Path) -> Path:
    """Save PromptSRC prompts: 3 text tokens in 2 blocks, and 2 visual tokens in 3 blocks."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"prompt_learner.ctx": 3, "text_encoder.transformer.resblocks.1.VPT_shallow": 3}
    shapes |= {"image_encoder.VPT": 2}
    shapes |= {f"image_encoder.transformer.resblocks.{i}.VPT_shallow": 2 for i in (1, 2)}
    state = {key: torch.randn(n, 128, generator=generator) * 0.1 for key, n in shapes.items()}
    torch.save({"state_dict": state, "epoch": 20}, path)
    return path


class ToyWorld:
    """A folder with a dataset of 6 classes and CLIP weights, and methods to run trainers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clip = str(folder / "clip.pt")
        self.teacher_clip = str(folder / "teacher_clip.pt")
        self.teacher = str(folder / "teacher.pth.tar")
        self.classnames = [name for _, name in CALTECH_CLASSES[:6]]
        if not (folder / "data").exists():  # a world created by another process is reused
            save_toy_clip(self.clip)
            save_toy_clip(self.teacher_clip, **TEACHER_SIZES)
            save_teacher(Path(self.teacher))
            caltech101(folder / "data", classes=6, train=8, val=4, test=4)

    def cfg(self, trainer: str, output: Path, *opts: Any) -> Any:
        """Return a frozen config: 3 epochs, 4 shots, base classes; ``opts`` override settings."""
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
        """Build a trainer as train.py does."""
        cfg = self.cfg(trainer, output, *opts)
        set_random_seed(cfg.SEED)
        return build_trainer(cfg)

    def trained(self, trainer: str, output: Path, *opts: Any) -> Any:
        """Build and train a trainer."""
        built = self.build(trainer, output, *opts)
        built.train()
        return built


def learned(trainer: Any) -> dict[str, Any]:
    """Return copies of all trained tensors by name."""
    return {
        f"{name}.{key}": value.clone()
        for name, module in trainer.model.trainable_modules().items()
        for key, value in module.state_dict().items()
    }
