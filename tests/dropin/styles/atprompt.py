"""In the style of ATPrompt: attribute words with learned vectors before CoOp's context."""

import torch
from torch import nn
from torch.nn import functional as F
from yacs.config import CfgNode as CN

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from trainers.coop import TextEncoder, load_clip_to_cpu

OPTIONS = ["TRAINER.ATPROMPT.ATT1_TEXT", "color"]


def extend_cfg(cfg):
    cfg.TRAINER.ATPROMPT = CN({"N_ATT1": 2, "ATT1_TEXT": "none"})


class AttributePrompts(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        settings, width = cfg.TRAINER.ATPROMPT, clip_model.ln_final.weight.shape[0]
        n_att, n_ctx = settings.N_ATT1, 4
        self.ctx = nn.Parameter(torch.randn(n_ctx, width) * 0.02)
        self.ctx_att1 = nn.Parameter(torch.randn(n_att, width) * 0.01)
        start = "X " * n_att + settings.ATT1_TEXT + " X" * n_ctx
        self.tokenized = torch.cat([clip.tokenize(f"{start} {name}.") for name in classnames])
        with torch.no_grad():
            embedding = clip_model.token_embedding(self.tokenized)
        self.register_buffer("token_prefix", embedding[:, :1])
        self.register_buffer("token_middle1", embedding[:, 1 + n_att : 2 + n_att])
        self.register_buffer("token_suffix", embedding[:, 2 + n_att + n_ctx :])

    def forward(self):
        learned = [p.expand(len(self.tokenized), -1, -1) for p in (self.ctx_att1, self.ctx)]
        parts = [self.token_prefix, learned[0], self.token_middle1, learned[1], self.token_suffix]
        return torch.cat(parts, dim=1)


@TRAINER_REGISTRY.register()
class StyleATPrompt(TrainerX):
    def build_model(self):
        cfg = self.cfg
        self.clip_model = load_clip_to_cpu(cfg).float().requires_grad_(False)
        self.model = AttributePrompts(cfg, self.dm.dataset.classnames, self.clip_model)
        self.text_encoder = TextEncoder(self.clip_model)
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model, self.optim, self.sched)

    def model_inference(self, input):
        text = F.normalize(self.text_encoder(self.model(), self.model.tokenized), dim=-1)
        features = F.normalize(self.clip_model.visual(input), dim=-1)
        return self.clip_model.logit_scale.exp() * features @ text.t()

    def forward_backward(self, batch):
        loss = F.cross_entropy(self.model_inference(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}
