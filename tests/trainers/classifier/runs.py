"""Run folders of every method on toy data, trained once per test session."""

from pathlib import Path
from typing import Any

from tests.trainers.toy_runs import TEST_CASES, ToyWorld

__all__ = ["METHODS", "Runs"]

METHODS = [name for name, _ in TEST_CASES if name != "TextRefiner"]  # an alias


class Runs:
    """The trained toy runs: `trainer` and `folder` by method."""

    def __init__(self, folder: Path) -> None:
        (folder / "world").mkdir(parents=True)
        self.world = ToyWorld(folder / "world")
        self.root = folder
        self.trained: dict[str, Any] = {}

    def folder(self, method: str, *opts: Any) -> Path:
        """Return the output folder of a run of two epochs, with the config that train.py writes."""
        key = " ".join(map(str, (method, *opts)))
        folder = self.root / key.replace("/", "_")
        if key not in self.trained:
            short = ("OPTIM.MAX_EPOCH", 2, "DATASET.NUM_SHOTS", 2)
            trainer = self.world.trained(method, folder, *short, *opts)
            (folder / "config.yaml").write_text(trainer.cfg.dump())
            self.trained[key] = trainer
        return folder

    def trainer(self, method: str, *opts: Any) -> Any:
        """Return the trainer of `folder`, in eval mode."""
        self.folder(method, *opts)
        trainer = self.trained[" ".join(map(str, (method, *opts)))]
        trainer.set_model_mode("eval")
        return trainer

    @property
    def images(self) -> list[str]:
        """The paths of the test images of three classes."""
        return sorted(map(str, (self.world.folder / "data").rglob("image_0015.jpg")))[:3]
