"""results.py --compare: pairs, differences of the settings, refusals."""

import json
from pathlib import Path
from statistics import harmonic_mean
from typing import Any

import pytest

from scripts import results
from scripts.tables.compare import compare, over_datasets
from tests.scripts.fake_output import Output

PLAIN = {"trainer": "CoOp"}
REFINED = {
    "trainer": "TextRefinerCoOp",
    "settings": {
        "TRAINER.COOP.N_CTX": 4,
        "OPTIM.LR": 0.004,
        "TRAINER.TEXTREFINER.CACHE_SIZE": 25,
    },
}


class Sides:
    """Two output folders, a and b."""

    def __init__(self, root: Path) -> None:
        self.a, self.b = (root / "a", root / "b")
        for folder in (self.a, self.b):
            folder.mkdir()
        self.first, self.second = Output(self.a), Output(self.b)

    def add(self, a: list[float], b: list[float], **fields: Any) -> None:
        self.first.add_seeds(*a, **{**REFINED, **fields})
        self.second.add_seeds(*b, **{**PLAIN, **fields})


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


def test_pairs_by_dataset_and_seed(sides: Sides) -> None:
    sides.add([80.0, 82.0], [79.0, 80.0])
    sides.add([60.0, 64.0], [61.0, 60.0], classes="new")
    sides.add([50.0, 52.0], [40.0, 40.0], dataset="DTD")
    found = compare(sides.a, sides.b).pairs()
    assert found["base"].differences == {
        ("Critters", 1): 1.0,
        ("Critters", 2): 2.0,
        ("DTD", 1): 10.0,
        ("DTD", 2): 12.0,
    }
    assert found["new"].differences == {("Critters", 1): -1.0, ("Critters", 2): 4.0}
    h = harmonic_mean([80.0, 60.0]) - harmonic_mean([79.0, 61.0])
    assert found["H"].differences["Critters", 1] == pytest.approx(h, abs=1e-8)
    assert len(found["H"].differences) == 2
    assert over_datasets(found["base"]).differences == {"Critters": 1.5, "DTD": 11.0}


def test_markdown_names_pairs_settings_and_lonely_runs(
    sides: Sides, capsys: pytest.CaptureFixture[str]
) -> None:
    sides.add([80.0, 82.0], [79.0, 80.0])
    sides.first.add(70.0, **{**REFINED, "seed": 3})
    assert results.main(["--compare", str(sides.a), str(sides.b)]) == 0
    shown = capsys.readouterr().out
    assert "### TextRefinerCoOp minus CoOp (backbone ViT-B/16)" in shown
    assert (
        "| base    | 2     | 81.00 | 79.50 | +1.50 (-4.85 to 7.85; 2 of 2 higher, p 0.5) |" in shown
    )
    assert "| Critters | 2    | base    | 82.00 | 80.00 | +2.00 |" in shown
    assert "- OPTIM.LR: A has 0.004, B has 0.002" in shown
    assert "- trainer: A has TextRefinerCoOp, B has CoOp" in shown
    assert "- TRAINER.TEXTREFINER: only in A: AGGREGATE both, CACHE_SIZE 25, " in shown
    assert f"- **Note** only in {sides.a}, not compared: Critters base seed 3" in shown


def test_json_and_seeds(sides: Sides, tmp_path: Path) -> None:
    sides.add([80.0, 82.0, 84.0], [79.0, 80.0, 0.0])
    file = tmp_path / "out.json"
    words = ["--compare", str(sides.a), str(sides.b), "--seeds", "1", "2", "--format", "json"]
    assert results.main([*words, "--out", str(file)]) == 0
    content = json.loads(file.read_text())
    base = content["columns"]["base"]
    assert base["differences"] == {"Critters seed 1": 1.0, "Critters seed 2": 2.0}
    assert base["over_datasets"]["differences"] == {"Critters": 1.5}


def test_settings_that_differ_on_some_datasets_only(sides: Sides) -> None:
    sides.add([80.0], [79.0])
    sides.add([50.0], [40.0], dataset="DTD")
    settings = {**REFINED["settings"], "OPTIM.MAX_EPOCH": 50}
    (folder,) = [
        run.folder for run in compare(sides.a, sides.b).runs[0].values() if run.dataset == "DTD"
    ]
    record = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**record, "settings": settings}))
    assert "OPTIM: only in A: MAX_EPOCH 50 (DTD)" in compare(sides.a, sides.b).config_differences


def test_commits_are_noted(sides: Sides) -> None:
    sides.add([80.0], [79.0], commit="a" * 40)
    assert compare(sides.a, sides.b).notes == []
    sides.first.add(81.0, **{**REFINED, "seed": 2, "commit": "b" * 40 + "-dirty"})
    sides.second.add(79.0, **{**PLAIN, "seed": 2})
    assert compare(sides.a, sides.b).notes == [
        "runs of several versions of the code: commit aaaaaaaaa, bbbbbbbbb-dirty in the first, "
        "aaaaaaaaa in the second"
    ]


def data(root: str, images: str) -> dict[str, Any]:
    return {
        "name": "Critters",
        "root": root,
        "classes": ["a", "b"],
        "all_classes": ["a", "b"],
        "test": {"images": 10, "sha256": images * 64},
    }


def clip(sample: str) -> dict[str, Any]:
    return {"text_projection": {"shape": "2 x 2", "sample": sample}}


@pytest.mark.parametrize(
    ("one", "other", "sentence"),
    [
        ({"data": data("/x", "1")}, {"data": data("/y", "2")}, "compare runs on the same images"),
        ({"clip": clip("0.1")}, {"clip": clip("0.2")}, "compare runs with the same CLIP"),
        ({"backbone": "RN50"}, {}, "has the CLIP RN50"),
        ({"total": 900}, {}, "was tested on 900 images"),
        ({"dataset": "DTD"}, {}, "share no dataset, classes and seed: DTD base seed 1 in the"),
    ],
)
def test_other_data_and_other_clips_are_refused(
    sides: Sides,
    one: dict[str, Any],
    other: dict[str, Any],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sides.first.add(80.0, **{**REFINED, **one})
    sides.second.add(79.0, **{**PLAIN, **other})
    assert results.main(["--compare", str(sides.a), str(sides.b)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_the_same_images_at_another_place_are_the_same_data(sides: Sides) -> None:
    sides.first.add(80.0, **REFINED, data=data("/x", "1"))
    sides.second.add(79.0, **PLAIN, data=data("/y", "1"))
    assert compare(sides.a, sides.b).pairs()["base"].mean == 1.0


def test_a_side_is_one_method_in_one_setting(
    sides: Sides, capsys: pytest.CaptureFixture[str]
) -> None:
    sides.add([80.0], [79.0])
    sides.second.add(70.0, trainer="MaPLe")
    words = ["--compare", str(sides.a), str(sides.b)]
    assert results.main(words) == 2
    assert f"{sides.b} has runs of 2 methods or settings, such as in " in capsys.readouterr().err
    sides.first.add(81.0, **{**REFINED, "shots": 4})
    assert results.main(words) == 2
    assert "are both Critters, base classes, seed 1: give a folder" in capsys.readouterr().err


def test_mistaken_arguments(sides: Sides, capsys: pytest.CaptureFixture[str]) -> None:
    sides.add([80.0], [79.0])
    pair = ["--compare", str(sides.a), str(sides.b)]
    for words, sentence in (
        ([*pair, "--format", "latex"], "--compare prints markdown or json, not --format latex"),
        ([*pair, "--plot", "x.png"], "--compare does not use --plot: leave it out"),
        ([str(sides.a), *pair], "--compare does not use folder: leave it out"),
        ([*pair, "--seeds", "7"], "no result of seeds 7 below"),
        (["--compare", str(sides.a)], "--compare: expected 2 arguments"),
        ([], "required: folder, or --compare RUN_A RUN_B"),
    ):
        assert results.main(words) == 2
        assert sentence in capsys.readouterr().err
