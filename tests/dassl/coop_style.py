"""A toy trainer in the style of the public CoOp-family trainers, on the stub data below.

Its model has BatchNorm and dropout, so that running statistics and random states matter.
"""

import torch
from torch import nn
from torch.nn import functional as F

from dassl.config import get_cfg_default, merge_opts
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer

CLASSES, WIDTH, BATCH, BATCHES = 3, 6, 8, 3


class Item:
    def __init__(self, impath):
        self.impath = impath


class StubDataset:
    """Named images that have no files."""

    def __init__(self, val="val"):
        self.classnames = [f"class {i}" for i in range(CLASSES)]
        self.test = [Item(f"test{i}") for i in range(BATCH)]
        self.val = [Item(f"{val}{i}") for i in range(BATCH)]


class StubLoader:
    """Batches that depend only on (split, epoch, batch), like the data manager's."""

    def __init__(self, split, batches=BATCHES):
        self.split, self.batches, self.epoch = split, batches, 0

    def __len__(self):
        return self.batches

    def __iter__(self):
        for index in range(self.batches):
            generator = torch.Generator().manual_seed(1000 * self.split + 10 * self.epoch + index)
            label = torch.randint(CLASSES, (BATCH,), generator=generator)
            noise = torch.randn(BATCH, WIDTH, generator=generator)
            image = 2 * F.one_hot(label, WIDTH) + noise
            yield {"img": image, "label": label, "domain": torch.zeros_like(label)}


class StubDataManager:
    def __init__(self):
        self.dataset = StubDataset()
        self.train_loader_x, self.train_loader_u = StubLoader(0), StubLoader(1, batches=2)
        self.val_loader, self.test_loader = StubLoader(2), StubLoader(3)
        self.num_classes, self.num_source_domains = CLASSES, 0
        self.lab2cname = dict(enumerate(self.dataset.classnames))

    def set_epoch(self, epoch):
        self.train_loader_x.epoch = self.train_loader_u.epoch = epoch


class ToyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.prompt_learner = nn.Linear(8, CLASSES)

    def forward(self, image):
        return self.prompt_learner(self.backbone(image))


class ToyCoOp(TrainerX):
    """Two registered models, one of them without an optimizer."""

    def build_data_loader(self):
        self.dm = self.make_data_manager()
        self.train_loader_x = self.dm.train_loader_x
        self.train_loader_u = self.dm.train_loader_u
        self.val_loader = self.dm.val_loader
        self.test_loader = self.dm.test_loader
        self.num_classes = self.dm.num_classes
        self.num_source_domains = self.dm.num_source_domains
        self.lab2cname = self.dm.lab2cname

    def make_data_manager(self):
        return StubDataManager()

    def build_model(self):
        self.model = ToyNet().to(self.device)
        self.optim = build_optimizer(self.model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.register_model("backbone", self.model.backbone)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        loss_summary = {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return loss_summary

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)


def toy_cfg(output_dir, *opts):
    """Return settings: SGD with momentum, one warm-up epoch, 4 epochs, a checkpoint after each."""
    cfg = get_cfg_default()
    settings = {
        "OUTPUT_DIR": str(output_dir),
        "SEED": 1,
        "USE_CUDA": False,
        "VERBOSE": False,
        "OPTIM.NAME": "sgd",
        "OPTIM.LR": 0.05,
        "OPTIM.LR_SCHEDULER": "cosine",
        "OPTIM.WARMUP_EPOCH": 1,
        "OPTIM.WARMUP_TYPE": "constant",
        "OPTIM.MAX_EPOCH": 4,
        "TRAIN.CHECKPOINT_FREQ": 1,
        "TRAIN.PRINT_FREQ": 2,
    }
    merge_opts(cfg, [word for pair in settings.items() for word in pair])
    merge_opts(cfg, opts)
    cfg.freeze()
    return cfg
