"""A repository with a changed clip/ runs with this project's dassl, as docs/coop_users.md shows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toy import save_toy_clip
from tests.toy_data import caltech101

ROOT = Path(__file__).parents[2]
TRAIN = """
import argparse
import sys

import datasets.caltech101
import trainers.deep
from dassl.config import get_cfg_default
from dassl.engine import build_trainer
from dassl.utils import set_random_seed, setup_logger
from yacs.config import CfgNode as CN

cfg = get_cfg_default()
cfg.TRAINER.DEEP = CN({"PREC": "fp32"})
cfg.DATASET.SUBSAMPLE_CLASSES = "all"
cfg.merge_from_list(sys.argv[1:])
cfg.freeze()
set_random_seed(1)
setup_logger(cfg.OUTPUT_DIR)
trainer = build_trainer(cfg)
trainer.train()
print("dassl of", __import__("dassl").__file__)
print("clip of", __import__("clip").__file__)
"""
TRAINER = """
import torch
from torch.nn import functional as F

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer


def load_clip_to_cpu(cfg):
    url = clip._MODELS[cfg.MODEL.BACKBONE.NAME]
    state_dict = torch.load(clip._download(url), map_location="cpu")
    design_details = {"trainer": "Deep", "vision_depth": 2, "language_depth": 2}
    return clip.build_model_deep(state_dict, design_details)


@TRAINER_REGISTRY.register()
class Deep(TrainerX):
    def build_model(self):
        self.clip_model = load_clip_to_cpu(self.cfg).float()
        self.tokens = clip.tokenize([f"a {name}." for name in self.dm.dataset.classnames])
        self.model = self.clip_model.deep_prompts
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("deep", self.model, self.optim, self.sched)

    def model_inference(self, image):
        features = F.normalize(self.clip_model.encode_image(image) + self.model.weight[0], dim=-1)
        text = F.normalize(self.clip_model.encode_text(self.tokens), dim=-1)
        return 100 * features @ text.t()

    def forward_backward(self, batch):
        loss = F.cross_entropy(self.model_inference(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}
"""
CHANGE = """


def build_model_deep(state_dict, design_details):
    model = build_model(state_dict)
    dim = model.text_projection.shape[1]
    model.deep_prompts = torch.nn.Embedding(design_details["vision_depth"], dim)
    return model
"""


@pytest.fixture
def repository(tmp_path):
    """Return a folder with train.py, trainers/, datasets/ and a changed copy of clip/."""
    folder = tmp_path / "repository"
    (folder / "trainers").mkdir(parents=True)
    (folder / "train.py").write_text(TRAIN)
    (folder / "trainers" / "__init__.py").touch()
    (folder / "trainers" / "deep.py").write_text(TRAINER)
    shutil.copytree(ROOT / "clip", folder / "clip", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "clip" / "clip.py").write_text(
        (folder / "clip" / "clip.py").read_text() + CHANGE, encoding="utf-8"
    )
    (folder / "datasets").mkdir()
    for name in ("base", "cache", "caltech101", "locks", "pickle_scan", "split", "text"):
        shutil.copy(ROOT / "datasets" / f"{name}.py", folder / "datasets")
    shutil.copy(ROOT / "datasets" / "unlabeled.py", folder / "datasets")
    shutil.copytree(ROOT / "datasets" / "download", folder / "datasets" / "download")
    shutil.copy(ROOT / "datasets" / "sources.yaml", folder / "datasets")
    return folder


def test_its_train_py_uses_its_clip_and_our_dassl(repository, tmp_path):
    weights = save_toy_clip(tmp_path / "clip.pt")
    caltech101(tmp_path / "data", classes=3, train=8, val=2, test=4)
    settings = {
        "DATASET.ROOT": tmp_path / "data",
        "DATASET.NAME": "Caltech101",
        "DATASET.NUM_SHOTS": 4,
        "DATALOADER.NUM_WORKERS": 0,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "INPUT.SIZE": "(32, 32)",
        "MODEL.BACKBONE.NAME": weights,
        "OPTIM.MAX_EPOCH": 1,
        "OUTPUT_DIR": tmp_path / "out",
        "TRAINER.NAME": "Deep",
        "USE_CUDA": False,
    }
    words = [str(word) for pair in settings.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "train.py", *words],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"dassl of {ROOT}" in done.stdout
    assert f"clip of {repository}" in done.stdout
    assert "* accuracy:" in (tmp_path / "out" / "log.txt").read_text()
    assert (tmp_path / "out" / "deep" / "model.pth.tar-1").is_file()
