"""build_transform with the original's arguments and its transform of test images."""

from torchvision import transforms as T


def build_transform(cfg, is_train=True, choices=None):
    steps = [T.Resize(max(cfg.INPUT.SIZE)), T.CenterCrop(cfg.INPUT.SIZE), T.ToTensor()]
    return T.Compose([*steps, T.Normalize(cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD)])
