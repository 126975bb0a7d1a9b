"""In the style of UPL: pseudo-labels, another data manager, and a config of other defaults."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from clip import clip
from dassl.data import DataManager
from dassl.data.data_manager import DatasetWrapper
from dassl.data.datasets import Datum
from dassl.data.samplers import build_sampler
from dassl.data.transforms import build_transform
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_lr_scheduler, build_optimizer
from trainers.coop import CustomCLIP, load_clip_to_cpu

OPTIONS = ["TEST.FINAL_MODEL", "last_val", "TRAINER.COOP.CTX_INIT", "a photo of a"]
# Settings that its file of defaults, a copy of an older Dassl's, does not have.
MISSING = ("DATALOADER.VIEWS", "DATALOADER.FEATURE_STORE", "DATALOADER.TRAIN_U")
MISSING += ("TEST.SELECT_ON_TEST", "INPUT.RRCROP_SCALE")


def build_loader(cfg, images, tfm, is_train):
    sampler = build_sampler(
        "RandomSampler" if is_train else "SequentialSampler",
        cfg=cfg,
        data_source=images,
        batch_size=cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
        n_domain=cfg.DATALOADER.TRAIN_X.N_DOMAIN,
        n_ins=1,
    )
    return DataLoader(
        DatasetWrapper(cfg, images, transform=tfm, is_train=is_train),
        batch_size=cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
        sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        drop_last=is_train,
        pin_memory=(torch.cuda.is_available() and cfg.USE_CUDA),
    )


class PseudoLabelManager(DataManager):
    def __init__(self, cfg, custom_tfm_train=None, custom_tfm_test=None, dataset_wrapper=None):
        super().__init__(cfg, custom_tfm_train, custom_tfm_test, dataset_wrapper)
        self.cfg = cfg
        self.tfm_train = build_transform(cfg, is_train=True)
        tfm_test = build_transform(cfg, is_train=False)
        self.train_loader_sstrain = build_loader(cfg, self.dataset.train_x, tfm_test, False)

    def update(self, labels):
        images = [Datum(item.impath, labels[item.impath], 0, "") for item in self.dataset.train_x]
        self.train_loader_sstrain = build_loader(self.cfg, images, self.tfm_train, True)


@TRAINER_REGISTRY.register()
class StyleUPL(TrainerX):
    def build_data_loader(self):
        dm = PseudoLabelManager(self.cfg)
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.lab2cname = dm.num_classes, dm.lab2cname
        self.num_source_domains = dm.num_source_domains
        self.dm = dm

    def build_model(self):
        cfg, names = self.cfg, self.dm.dataset.classnames
        clip_model = load_clip_to_cpu(cfg).float()
        self.model = CustomCLIP(cfg, names, clip_model)
        self.clip_model = clip_model
        for name, param in self.model.named_parameters():
            param.requires_grad_("prompt_learner" in name)
        self.optim = build_optimizer(self.model.prompt_learner, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("prompt_learner", self.model.prompt_learner, self.optim, self.sched)
        if torch.cuda.device_count() > 1:
            self.model = nn.DataParallel(self.model)

    @torch.no_grad()
    def before_train(self):
        super().before_train()
        prompts = [f"a photo of a {name}." for name in self.dm.dataset.classnames]
        text = F.normalize(self.clip_model.encode_text(clip.tokenize(prompts)), dim=-1)
        labels = {}
        for batch in self.dm.train_loader_sstrain:
            image = F.normalize(self.clip_model.encode_image(batch["img"]), dim=-1)
            best = (image @ text.t()).argmax(dim=-1).tolist()
            labels.update(zip(batch["impath"], best, strict=True))
        self.dm.update(labels)
        self.train_loader_x = self.dm.train_loader_sstrain

    def forward_backward(self, batch):
        loss = F.cross_entropy(self.model(batch["img"]), batch["label"])
        self.model_backward_and_update(loss)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        return {"loss": loss.item()}
