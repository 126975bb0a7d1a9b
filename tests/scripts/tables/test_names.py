"""Names of methods in the tables of results.py: those of the demo and of the ablation."""

from pathlib import Path
from typing import Any

import pytest

from scripts import demo
from scripts.ablation.rows import ROWS
from scripts.runner.protocol_table import ProtocolTable
from scripts.tables.load import REFINER, find
from scripts.tables.names import FULL, method_name, method_names
from tests.scripts.fake_output import Output
from trainers.settings import DEFAULTS

TABLE = ProtocolTable.load(Path(__file__).resolve().parents[3] / "configs" / "protocols.yaml")


def names(output: Output) -> list[str]:
    runs = find(output.root).runs
    return [method_names(runs)(run) for run in runs]


def settings(**changed: Any) -> dict[str, Any]:
    return {"settings": {REFINER + key: value for key, value in {**FULL, **changed}.items()}}


def test_the_full_method_has_the_settings_defaults() -> None:
    assert DEFAULTS["TEXTREFINER"] == FULL


def test_trainers_have_the_names_of_the_demo() -> None:
    """The first row of a trainer has its name alone, further rows say what differs."""
    printed: dict[str, str] = {}
    for method in (method for group in demo.ALL.groups for method in group if method.in_table):
        trainer = TABLE.setting(method.method, method.protocol, "").trainer
        printed.setdefault(trainer, method.label)
    assert len(printed) > 12
    assert {trainer: method_name(trainer) for trainer in printed} == printed


def test_other_trainers_keep_their_names() -> None:
    assert method_name("MyTrainer") == "MyTrainer"
    assert method_name("TextRefiner") == "CoOp + TextRefiner"


def test_variants_of_one_learner_have_the_labels_of_the_ablation(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.add(70.0)
    output.add(70.0, trainer="TextRefinerCoOp", **settings())
    output.add(70.0, trainer="TextRefinerCoOp", **settings(CACHE=False, LOCAL=False))
    output.add(70.0, trainer="TextRefinerCoOp", **settings(ALPHA=0.5))
    output.add(70.0, trainer="TextRefinerCoOp", **settings(ALPHA=0.3))
    assert demo.AGGREGATION.label == ROWS["aggregation-only"].label
    assert names(output) == [
        "CoOp",
        "CoOp + TextRefiner",
        demo.AGGREGATION.label,
        "alpha 0.5",
        "CoOp + TextRefiner",  # not a row of the ablation: the table adds its settings
    ]


def test_variants_of_several_learners_name_their_learner(tmp_path: Path) -> None:
    output = Output(tmp_path)
    output.add(70.0, trainer="TextRefinerCoOp", **settings(CACHE=False))
    output.add(70.0, trainer="TextRefinerMaPLe", **settings(CACHE=False))
    assert names(output) == ["CoOp + TextRefiner, no cache", "MaPLe + TextRefiner, no cache"]


@pytest.mark.parametrize("slug", [slug for slug, row in ROWS.items() if row.model == "refined"])
def test_every_row_of_the_ablation_is_recognized(slug: str, tmp_path: Path) -> None:
    values = {
        key.removeprefix(REFINER): type(FULL[key.removeprefix(REFINER)])(
            value != "False" if value in ("True", "False") else value
        )
        for key, value in ROWS[slug].options("TEXTREFINER").items()
    }
    output = Output(tmp_path)
    output.add(70.0, trainer="TextRefinerCoOp", **settings(**values))
    assert names(output) == ["CoOp + TextRefiner" if slug == "full" else ROWS[slug].label]
