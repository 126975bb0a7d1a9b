"""In the style of KgCoOp: a second CLIP encodes fixed prompts; forward returns two values."""

import torch
from torch import nn
from torch.nn import functional as F

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import load_pretrained_weights
from trainers.coop import PromptLearner, TextEncoder

OPTIONS = ["TRAINER.COOP.PREC", "fp32", "TRAINER.COOP.CTX_INIT", "a photo of a"]


def load_clip_to_cpu(cfg):
    model_path = clip._download(clip._MODELS[cfg.MODEL.BACKBONE.NAME])
    try:
        state_dict = torch.jit.load(model_path, map_location="cpu").eval().state_dict()
    except RuntimeError:
        state_dict = torch.load(model_path, map_location="cpu")
    return clip.build_model(state_dict)


class CustomCLIP(nn.Module):
    def __init__(self, cfg, classnames, clip_model):
        super().__init__()
        self.prompt_learner = PromptLearner(cfg, classnames, clip_model)
        self.tokenized_prompts = self.prompt_learner.tokenized_prompts
        self.image_encoder = clip_model.visual
        self.text_encoder = TextEncoder(clip_model)
        self.logit_scale = clip_model.logit_scale
        teacher = load_clip_to_cpu(cfg).float()
        prompts = torch.cat([clip.tokenize(f"a photo of a {name}.") for name in classnames])
        with torch.no_grad():
            self.register_buffer("fixed", F.normalize(teacher.encode_text(prompts), dim=-1))

    def forward(self, image):
        image_features = F.normalize(self.image_encoder(image), dim=-1)
        text = self.text_encoder(self.prompt_learner(), self.tokenized_prompts)
        text = F.normalize(text, dim=-1)
        score = 1.0 - F.cosine_similarity(text, self.fixed).mean()
        return self.logit_scale.exp() * image_features @ text.t(), score


@TRAINER_REGISTRY.register()
class StyleKgCoOp(TrainerX):
    def check_cfg(self, cfg):
        assert cfg.TRAINER.COOP.PREC in ["fp16", "fp32", "amp"]

    def build_model(self):
        clip_model = load_clip_to_cpu(self.cfg).float()
        self.model = CustomCLIP(self.cfg, self.dm.dataset.classnames, clip_model)
        for name, param in self.model.named_parameters():
            param.requires_grad_("prompt_learner" in name)
        if self.cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model.prompt_learner, self.cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        self.optim = build_optimizer(self.model.prompt_learner, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)

    def forward_backward(self, batch):
        image, label = self.parse_batch_train(batch)
        output, score = self.model(image)
        loss = F.cross_entropy(output, label) + 8.0 * score
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item(), "acc": compute_accuracy(output, label)[0].item()}

    def parse_batch_train(self, batch):
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def model_inference(self, input):
        return self.model(input)[0]

    def load_model(self, directory, epoch=None):
        from dassl.utils import load_checkpoint

        for name in self.get_model_names():
            state = load_checkpoint(f"{directory}/{name}/model.pth.tar-{epoch}")["state_dict"]
            for fixed in ("token_prefix", "token_suffix"):
                state.pop(fixed, None)
            self._models[name].load_state_dict(state, strict=False)
