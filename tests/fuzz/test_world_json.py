"""Damaged world.json files end in a UsageError."""

from __future__ import annotations

from pathlib import Path

from dassl.utils import UsageError
from datasets.critters_world.folder import Plan, prepare_folder
from tests.fuzz.harness import fuzz


def test_world_json(tmp_path: Path) -> None:
    plan = Plan(species=(3,), shift="morph50", train=1, val=0, test=1)
    prepare_folder(plan, tmp_path, workers=1)

    def read(path: Path) -> None:
        prepare_folder(plan, path.parent, workers=1)

    seeds = [(tmp_path / "world.json").read_bytes()]
    print(fuzz(read, seeds, tmp_path, "world.json", (UsageError,)))
