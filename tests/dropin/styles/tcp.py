"""In the style of TCP: a class-aware prompt enters between the blocks of the text encoder."""

import torch
from torch import nn
from torch.nn import functional as F

from clip import clip
from clip.model import QuickGELU, convert_weights
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from trainers.coop import PromptLearner, load_clip_to_cpu

OPTIONS = ["TRAINER.COOP.CTX_INIT", "a photo of a", "OPTIM.NAME", "adam"]


class ClassAwarePrompts(PromptLearner):
    def __init__(self, cfg, classnames, clip_model, text_features):
        super().__init__(cfg, classnames, clip_model)
        width, dim = self.ctx.shape[-1], text_features.shape[1]
        self.meta_net = nn.Sequential(
            nn.Linear(dim, dim // 4), QuickGELU(), nn.Linear(dim // 4, self.n_ctx * width)
        )
        self.register_buffer("text_features", text_features)

    def forward(self):
        class_prompt = self.meta_net(self.text_features)
        return super().forward(), class_prompt.view(self.n_cls, self.n_ctx, -1)


class CustomCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        prompts = torch.cat([clip.tokenize(f"a photo of a {name}.") for name in classnames])
        with torch.no_grad():
            text = F.normalize(clip_model.encode_text(prompts), dim=-1)
        self.prompt_learner = ClassAwarePrompts(cfg, classnames, clip_model, text)
        self.clip_model = clip_model

    def encode_text(self):
        model, learner = self.clip_model, self.prompt_learner
        prompts, class_prompt = learner()
        x = (prompts + model.positional_embedding).permute(1, 0, 2)
        for number, block in enumerate(model.transformer.resblocks):
            if number == 1:
                added = class_prompt.permute(1, 0, 2)
                x = torch.cat([x[:1], x[1 : 1 + learner.n_ctx] + added, x[1 + learner.n_ctx :]])
            x = block(x)
        x = model.ln_final(x.permute(1, 0, 2))
        rows = torch.arange(len(x))
        return x[rows, learner.tokenized_prompts.argmax(dim=-1)] @ model.text_projection

    def forward(self, image, label=None):
        features = F.normalize(self.clip_model.visual(image), dim=-1)
        text = F.normalize(self.encode_text(), dim=-1)
        logits = self.clip_model.logit_scale.exp() * features @ text.t()
        if not self.prompt_learner.training:
            return logits
        score = 1.0 - F.cosine_similarity(text, self.prompt_learner.text_features).mean()
        return logits, F.cross_entropy(logits, label) + 8.0 * score


@TRAINER_REGISTRY.register()
class StyleTCP(TrainerX):
    def build_model(self):
        cfg = self.cfg
        clip_model = load_clip_to_cpu(cfg)
        assert clip_model.visual.conv1.weight.dtype == torch.float16
        convert_weights(clip_model)
        self.model = CustomCLIP(cfg, self.dm.dataset.classnames, clip_model.float())
        for name, param in self.model.named_parameters():
            param.requires_grad_("prompt_learner" in name)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = batch["img"].to(self.device), batch["label"].to(self.device)
        output, loss = self.model(image, label)
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}
