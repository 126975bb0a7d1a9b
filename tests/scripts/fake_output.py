"""Write output folders with results in train.py's format."""

import json
from pathlib import Path
from typing import Any

from scripts.tables.load import find
from scripts.tables.rows import Options
from scripts.tables.tables import Table, build

RESULT: dict[str, Any] = {
    "trainer": "CoOp",
    "dataset": "Critters",
    "config": "critters",
    "seed": 1,
    "shots": 16,
    "classes": "base",
    "source": None,
    "backbone": "ViT-B/16",
    "selection": "last_step",
    "epoch": 10,
    "accuracy": 70.0,
    "macro_f1": 69.0,
    "error": 30.0,
    "total": 1000,
    "correct": 700,
    "split": "test",
    "settings": {"TRAINER.COOP.N_CTX": 4, "OPTIM.LR": 0.002},
}


class Output:
    """An output folder; methods add results and build tables."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def add(self, accuracy: float, **fields: Any) -> Path:
        """Add one run and return its folder; ``fields`` replace those of RESULT."""
        self.count += 1
        folder = self.root / f"run{self.count:02d}"
        folder.mkdir()
        (folder / "log.txt").touch()
        score = {"accuracy": accuracy, "error": 100 - accuracy, "correct": round(10 * accuracy)}
        (folder / "result.json").write_text(json.dumps({**RESULT, **score, **fields}))
        return folder

    def add_seeds(self, *accuracies: float, **fields: Any) -> None:
        for seed, accuracy in enumerate(accuracies, start=1):
            self.add(accuracy, seed=seed, **fields)

    def tables(self, *seeds: int) -> list[Table]:
        return build(find(self.root).runs, Options(seeds))

    def table(self, *seeds: int) -> Table:
        (table,) = self.tables(*seeds)
        return table


ZERO_SHOT = {"trainer": "ZeroshotCLIP", "selection": "zero-shot", "epoch": None, "shots": -1}
