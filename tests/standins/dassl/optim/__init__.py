"""build_optimizer and build_lr_scheduler, with SGD and a cosine schedule only."""

import torch


def build_optimizer(model, optim_cfg, param_groups=None):
    parameters = param_groups or model.parameters()
    return torch.optim.SGD(parameters, lr=optim_cfg.LR, weight_decay=optim_cfg.WEIGHT_DECAY)


def build_lr_scheduler(optimizer, optim_cfg):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, optim_cfg.MAX_EPOCH)
