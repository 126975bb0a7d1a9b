"""Registry, checkpoints and JSON, with the original's names."""

import json
import os

import torch
from PIL import Image


class Registry:
    """A mapping of names to classes."""

    def __init__(self, name):
        self._name = name
        self._obj_map = {}

    def register(self, obj=None, force=False):
        if obj is None:
            return lambda cls: self.register(cls, force)
        assert force or obj.__name__ not in self._obj_map
        self._obj_map[obj.__name__] = obj
        return obj

    def get(self, name):
        return self._obj_map[name]

    def registered_names(self):
        return list(self._obj_map)


def mkdir_if_missing(dirname):
    os.makedirs(dirname, exist_ok=True)


def read_json(fpath):
    with open(fpath) as file:
        return json.load(file)


def write_json(obj, fpath):
    with open(fpath, "w") as file:
        json.dump(obj, file)


def read_image(path):
    return Image.open(path).convert("RGB")


def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
    mkdir_if_missing(save_dir)
    name = model_name or f"model.pth.tar-{state['epoch']}"
    torch.save(state, os.path.join(save_dir, name))
    with open(os.path.join(save_dir, "checkpoint"), "w") as file:
        file.write(f"{name}\n")


def load_checkpoint(fpath):
    return torch.load(fpath, map_location="cpu", weights_only=False)


def load_pretrained_weights(model, weight_path):
    model.load_state_dict(load_checkpoint(weight_path)["state_dict"], strict=False)
