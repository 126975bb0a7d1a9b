"""In the style of SkipTuning: the last blocks are trained, with a warm-up that is built by hand."""

from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.engine.trainer import AverageMeter, MetricMeter
from dassl.metrics import compute_accuracy
from dassl.optim import build_optimizer
from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from trainers.coop import load_clip_to_cpu

OPTIONS = ["OPTIM.LR", "1e-4"]
MISSING = ("DATALOADER.VIEWS", "DATALOADER.FEATURE_STORE", "TEST.SELECT_ON_TEST")


@TRAINER_REGISTRY.register()
class StyleSkipTuning(TrainerX):
    def build_model(self):
        cfg = self.cfg
        self.model = load_clip_to_cpu(cfg).float()
        trained = []
        for tower in (self.model.transformer, self.model.visual.transformer):
            trained += list(tower.resblocks[-1].parameters())
        for param in self.model.parameters():
            param.requires_grad_(False)
        for param in trained:
            param.requires_grad_(True)
        self.prompts = clip.tokenize([f"a {name}." for name in self.dm.dataset.classnames])
        self.optim = build_optimizer(trained, cfg.OPTIM)
        successor = CosineAnnealingLR(self.optim, float(cfg.OPTIM.MAX_EPOCH))
        kinds = {
            "constant": (ConstantWarmupScheduler, cfg.OPTIM.WARMUP_CONS_LR),
            "linear": (LinearWarmupScheduler, cfg.OPTIM.WARMUP_MIN_LR),
        }
        kind, rate = kinds[cfg.OPTIM.WARMUP_TYPE]
        self.sched = kind(self.optim, successor, cfg.OPTIM.WARMUP_EPOCH, rate)
        self.register_model("model", self.model, self.optim, self.sched)
        self.history, self.step_time = MetricMeter(), AverageMeter()

    def model_inference(self, input):
        features = F.normalize(self.model.encode_image(input), dim=-1)
        text = F.normalize(self.model.encode_text(self.prompts), dim=-1)
        return self.model.logit_scale.exp() * features @ text.t()

    def forward_backward(self, batch):
        output = self.model_inference(batch["img"])
        loss = F.cross_entropy(output, batch["label"])
        self.model_backward_and_update(loss)
        summary = {"loss": loss.item(), "acc": compute_accuracy(output, batch["label"])[0].item()}
        self.history.update(summary)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return summary
