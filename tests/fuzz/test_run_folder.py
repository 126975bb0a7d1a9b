"""checkpoint.json and config.yaml of a run folder, as trainers.classifier reads them."""

import json
from pathlib import Path

import pytest
import torch

from dassl.data.transforms import build_transform
from dassl.utils import UsageError
from tests.fuzz.harness import fuzz
from tests.trainers.toy_runs import ToyWorld
from trainers.classifier.building import IMAGES, Builder, config_of
from trainers.classifier.recorded import read_recorded
from trainers.classifier.selection import choose_epoch, describe_epoch
from trainers.settings import SettingsError

ALLOWED = (SettingsError, UsageError)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bytes]]:
    """Return the files of two short runs by name."""
    world = ToyWorld(tmp_path_factory.mktemp("world"))
    found: dict[str, list[bytes]] = {"checkpoint.json": [], "config.yaml": []}
    for method in ("TextRefinerCoOp", "PromptSRC"):
        folder = world.folder / method
        trainer = world.trained(method, folder, "OPTIM.MAX_EPOCH", 1, "DATASET.NUM_SHOTS", 1)
        record = json.loads((folder / "checkpoint.json").read_text())
        inputs = {f"INPUT.{key}": value for key, value in trainer.cfg.INPUT.items()}
        record["settings"] = {**inputs, **record["settings"]}
        found["checkpoint.json"].append(json.dumps(record).encode())
        found["config.yaml"].append(trainer.cfg.dump().encode())
    return found


def read(path: Path) -> None:
    """Read the folder as far as no weights are needed."""
    recorded = read_recorded(str(path.parent))
    if {f"INPUT.{key}" for key in IMAGES} <= set(recorded.settings):  # else the CLIP's are loaded
        cfg, _ = config_of(recorded, "ViT-B/16", {})
        Builder(cfg, torch.device("cpu"))
        build_transform(cfg, is_train=False)
    for name in ("prompt_learner", "VLPromptLearner"):
        (path.parent / name).mkdir(exist_ok=True)
        (path.parent / name / "model.pth.tar-1").touch()
    describe_epoch(recorded, choose_epoch(recorded, ["prompt_learner"], None))


@pytest.mark.parametrize("name", ["checkpoint.json", "config.yaml"])
def test_a_damaged_file_is_an_error_of_one_sentence(
    name: str, files: dict[str, list[bytes]], tmp_path: Path
) -> None:
    found = fuzz(read, files[name], tmp_path, name, ALLOWED)
    print(name, found)
    assert found["read"] > 0
    assert sum(found.values()) > found["read"]
