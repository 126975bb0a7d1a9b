"""The table of names of Dassl 0.6.3 in docs/coop_users.md is true."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from dassl.config import get_cfg_default
from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UsageError

TEXT = (Path(__file__).parents[2] / "docs" / "coop_users.md").read_text()
SECTION = TEXT.partition("### Names of Dassl 0.6.3\n")[2].partition("\n## ")[0]
ROWS = [
    [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:4]]
    for line in SECTION.splitlines()
    if line.startswith("| `")
]
AVAILABLE = [(module, name) for (module,), names, _ in ROWS for name in names]
REFUSED = [(module, name) for (module,), _, names in ROWS for name in names]
ABSENT = re.findall(r"`(dassl\.[a-z.]+)`", SECTION.rpartition("Out of scope")[2])


def test_the_table_is_read():
    assert len(ROWS) == 35
    assert ("dassl.engine.trainer", "SummaryWriter") in AVAILABLE
    assert ("dassl.modeling", "build_head") in REFUSED
    assert "dassl.modeling.network" in ABSENT


@pytest.mark.parametrize(("module", "name"), AVAILABLE, ids=".".join)
def test_available_name(module, name):
    found = getattr(importlib.import_module(module), name)
    assert not isinstance(found, ModuleType)
    exec(f"from {module} import {name}", {})


CALLS = {
    "SimpleNet": lambda net: net(get_cfg_default(), get_cfg_default().MODEL, 3),
    "build_backbone": lambda build: build("resnet18"),
    "build_head": lambda build: build("mlp"),
}


@pytest.mark.parametrize(("module", "name"), REFUSED, ids=".".join)
def test_refused_name(module, name):
    if name == "DatasetBase.download_data":
        dataset = DatasetBase(train_x=[Datum("a.jpg")], test=[Datum("b.jpg")])
        with pytest.raises(UsageError, match=r"download https://x\.org/a\.zip and unpack it"):
            dataset.download_data("https://x.org/a.zip", "folder/a.zip")
    elif name in CALLS:
        found = getattr(importlib.import_module(module), name)
        with pytest.raises(UsageError, match=r"is out of scope: .* use Dassl\.pytorch 0\.6\.3"):
            CALLS[name](found)
    else:
        match = "use torch.optim.AdamW" if name == "AdamW" else f"{module}.{name} is out of scope"
        with pytest.raises(UsageError, match=match):
            exec(f"from {module} import {name}", {})


@pytest.mark.parametrize("module", ABSENT)
def test_files_out_of_scope_are_no_modules(module):
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{module}.anything")


@pytest.mark.parametrize("module", [module for (module,), _, _ in ROWS])
def test_other_names_are_missing_as_usual(module):
    loaded = importlib.import_module(module)
    assert not hasattr(loaded, "__no_such_name__")


def test_policies_and_randaugment_are_those_of_the_transforms():
    from torchvision.transforms import AutoAugmentPolicy

    from dassl.data.transforms import autoaugment, randaugment

    for name, policy in (("ImageNet", "IMAGENET"), ("CIFAR10", "CIFAR10"), ("SVHN", "SVHN")):
        transform = getattr(autoaugment, f"{name}Policy")((1, 2, 3))
        assert (transform.policy, transform.fill) == (AutoAugmentPolicy[policy], [1, 2, 3])
    transform = randaugment.RandAugment(3, 7)
    assert (transform.num_ops, transform.magnitude) == (3, 7)
    image = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    assert transform(image).shape == image.shape
