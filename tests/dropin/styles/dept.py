"""In the style of DePT: subclasses of CoOp's, with another epoch loop and optimizer."""

import datetime
import functools
import time

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from dassl.engine import TRAINER_REGISTRY
from dassl.engine.trainer import AverageMeter, MetricMeter, SummaryWriter
from dassl.engine.trainer import TrainerX as TrainerX_
from dassl.optim import build_lr_scheduler
from dassl.optim.radam import RAdam
from trainers.coop import CoOp, load_clip_to_cpu
from trainers.coop import CustomCLIP as CustomCLIP_

print = functools.partial(print, flush=True)
OPTIONS = ["TRAINER.COOP.PREC", "fp32", "TRAINER.COOP.CTX_INIT", "a photo of a"]


def extend_cfg(cfg):
    cfg.TRAINER.LINEAR_PROBE = CN({"WEIGHT": 0.3})
    cfg.TRAINER.NAMES_TO_UPDATE = ["prompt_learner", "linear_probe_proj"]


class EpochLoop(TrainerX_):
    def run_epoch(self):
        self.set_model_mode("train")
        losses, batch_time = MetricMeter(), AverageMeter()
        self.num_batches = len(self.train_loader_x)
        end = time.time()
        for index, batch in enumerate(self.train_loader_x):
            self.batch_idx = index
            losses.update(self.forward_backward(batch))
            batch_time.update(time.time() - end)
            left = (self.max_epoch - self.epoch) * self.num_batches - self.batch_idx - 1
            eta = datetime.timedelta(seconds=int(batch_time.avg * left))
            print(
                f"epoch [{self.epoch + 1}/{self.max_epoch}] {losses} eta {eta} "
                f"lr {self.get_current_lr():.4e}"
            )
            for name, meter in losses.meters.items():
                self.write_scalar("train/" + name, meter.avg, self.batch_idx)
            end = time.time()
        assert isinstance(self._writer, SummaryWriter)


class CustomCLIP(CustomCLIP_):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__(cfg, classnames, clip_model)
        self.weight = cfg.TRAINER.LINEAR_PROBE.WEIGHT
        self.on_base = cfg.DATASET.SUBSAMPLE_CLASSES == "base"
        width = clip_model.text_projection.size(1)
        self.linear_probe_proj = nn.Identity()
        if self.on_base:
            self.linear_probe_proj = nn.Linear(width, len(classnames)).type(self.dtype)

    def forward(self, img, labels=None):
        text = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        features = self.image_encoder(img.type(self.dtype))
        logits = self.logit_scale.exp() * F.normalize(features, dim=-1)
        logits = logits @ F.normalize(text, dim=-1).t()
        if not self.on_base:
            return logits
        probe = self.linear_probe_proj(features)
        if not self.prompt_learner.training:
            return (1 - self.weight) * logits + self.weight * probe
        first, second = F.cross_entropy(logits, labels), F.cross_entropy(probe, labels)
        return (1 - self.weight) * first + self.weight * second


@TRAINER_REGISTRY.register()
class StyleDePT(EpochLoop, CoOp):
    def build_model(self):
        cfg = self.cfg
        clip_model = load_clip_to_cpu(cfg).float()
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, clip_model)
        for name, param in self.model.named_parameters():
            param.requires_grad_(any(part in name for part in cfg.TRAINER.NAMES_TO_UPDATE))
        self.model.to(self.device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optim = RAdam(trained, lr=cfg.OPTIM.LR, betas=(0.9, 0.999), weight_decay=5e-4)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("PromptLearner", self.model, self.optim, self.sched)
        self.scaler = None

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        loss = self.model(image, label)
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def load_model(self, directory, epoch=None):
        for name in self.get_model_names():
            path = f"{directory}/{name}/model.pth.tar-{epoch}"
            state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
            own = self._models[name].state_dict()
            fixed = ("prompt_learner.token_prefix", "prompt_learner.token_suffix")
            kept = {k: v for k, v in state.items() if k in own and k not in fixed}
            self._models[name].load_state_dict(kept, strict=False)
