"""In the style of TaskRes: a residual on fixed text features, with a section of the config."""

import torch
from torch import nn
from torch.cuda.amp import GradScaler
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer

OPTIONS = ["TRAINER.TaskRes.PREC", "fp32"]


def extend_cfg(cfg):
    cfg.TRAINER.TaskRes = CN()
    cfg.TRAINER.TaskRes.PREC = "fp16"
    cfg.TRAINER.TaskRes.RESIDUAL_SCALE = 0.5


def load_clip_to_cpu(cfg):
    url = clip._MODELS[cfg.MODEL.BACKBONE.NAME]
    model_path = clip._download(url)
    try:
        model = torch.jit.load(model_path, map_location="cpu").eval()
        state_dict = None
    except RuntimeError:
        state_dict = torch.load(model_path, map_location="cpu")
    return clip.build_model(state_dict or model.state_dict())


class TaskResLearner(nn.Module):
    def __init__(self, cfg, base_text_features):
        super().__init__()
        self.alpha = cfg.TRAINER.TaskRes.RESIDUAL_SCALE
        self.register_buffer("base_text_features", base_text_features)
        self.text_feature_residuals = nn.Parameter(torch.zeros_like(base_text_features))

    def forward(self):
        return self.base_text_features + self.alpha * self.text_feature_residuals


class CustomCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        prompts = torch.cat([clip.tokenize(f"a photo of a {name}.") for name in classnames])
        with torch.no_grad():
            text = clip_model.encode_text(prompts)
        self.image_encoder = clip_model.visual
        self.logit_scale = clip_model.logit_scale
        self.prompt_learner = TaskResLearner(cfg, text / text.norm(dim=-1, keepdim=True))

    def forward(self, image):
        features = F.normalize(self.image_encoder(image), dim=-1)
        return self.logit_scale.exp() * features @ F.normalize(self.prompt_learner(), dim=-1).t()


@TRAINER_REGISTRY.register()
class StyleTaskRes(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.TaskRes.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        cfg = self.cfg
        clip_model = load_clip_to_cpu(cfg).float()
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, clip_model)
        for name, param in self.model.named_parameters():
            if "prompt_learner" not in name:
                param.requires_grad_(False)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        self.scaler = GradScaler() if cfg.TRAINER.TaskRes.PREC == "amp" else None

    def forward_backward(self, batch):
        image, label = batch["img"].to(self.device), batch["label"].to(self.device)
        output = self.model(image)
        loss = F.cross_entropy(output, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
