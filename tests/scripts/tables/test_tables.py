"""The papers' tables: averages over datasets, targets and domains, and grouping of rows."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from dassl.config.flat import read_config
from scripts import results
from scripts.runner.protocol_table import ProtocolTable
from scripts.tables.grouping import varied
from scripts.tables.load import Found, find
from scripts.tables.published import Published
from scripts.tables.render import FORMATS
from scripts.tables.rows import Options
from scripts.tables.tables import Table, build
from tests.scripts.fake_output import ZERO_SHOT, Output
from tests.scripts.fake_project import ROOT

SETTINGS = {"TRAINER.COOP.N_CTX": 4}
DISTILLED: dict[str, Any] = {"trainer": "PromptKD", "shots": 0}


def distilled(images: str, modal: str = "base2novel", **settings: Any) -> dict[str, Any]:
    """Return the settings of a distillation, as in result.json."""
    return {"DATASET": {"DISTILL_ON": images}, "TRAINER": {"MODAL": modal}, **settings}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


def titled(tables: list[Table], word: str) -> list[Table]:
    return [table for table in tables if word in table.title]


# Averages over datasets


def test_averages_over_datasets_and_h_of_the_averages(output: Output) -> None:
    for dataset, base, new in (("DTD", 80.0, 40.0), ("EuroSAT", 90.0, 60.0)):
        output.add_seeds(base, base + 2, dataset=dataset)
        output.add_seeds(new, new + 4, dataset=dataset, classes="new")
    (table,) = titled(output.tables(), "average")
    assert table.title == "Base to new classes, average over 2 datasets"
    assert table.about["datasets"] == "DTD, EuroSAT"
    assert "harmonic mean of the averaged" in table.about["H"]
    (row,) = table.rows
    assert row.cells["base"].values == {1: 85.0, 2: 87.0}
    assert (row.cells["base"].mean, row.cells["new"].mean) == (86.0, 52.0)
    # 2 * 86 * 52 / 138; the mean of the datasets' own H would be 63.81
    assert row.cells["H"].mean == pytest.approx(64.8116, abs=1e-4)
    assert table.notes == []


def test_no_average_if_a_seed_or_dataset_is_missing(output: Output) -> None:
    for trainer in ("CoOp", "MaPLe"):
        for dataset in ("DTD", "EuroSAT"):
            output.add_seeds(80.0, 82.0, dataset=dataset, trainer=trainer)
    output.add_seeds(80.0, 82.0, dataset="UCF101", trainer="MaPLe")
    output.add_seeds(70.0, dataset="UCF101", trainer="CoOp")
    output.add_seeds(70.0, 71.0, dataset="DTD", trainer="CoCoOp")
    (table,) = titled(output.tables(), "average")
    coop, maple = table.rows
    assert (coop.cells["base"].mean, maple.cells["base"].mean) == (None, 81.0)
    assert table.notes == [
        "CoOp (critters): no average of base (missing: UCF101)",
        "CoCoOp (critters): no average (only DTD)",
    ]


def test_settings_that_the_protocol_varies_are_averaged_and_noted(output: Output) -> None:
    weights = {"DTD": 200.0, "EuroSAT": 1000.0, "UCF101": 1000.0}
    for dataset, weight in weights.items():
        settings = distilled("all", **{"TRAINER.PROMPTKD.KD_WEIGHT": weight})
        output.add(70.0, dataset=dataset, settings=settings, **DISTILLED)
    (table,) = titled(output.tables(), "average")
    assert table.rows[0].cells["base"].mean == 70.0
    assert table.notes == [
        "PromptKD: the protocol varies TRAINER.PROMPTKD.KD_WEIGHT: 200.0 (DTD), "
        "1000.0 (EuroSAT, UCF101)"
    ]


def test_different_settings_are_not_averaged(output: Output) -> None:
    for number, dataset in enumerate(("DTD", "EuroSAT")):
        output.add(70.0, dataset=dataset, settings={"TRAINER.COOP.N_CTX": 4 + 12 * number})
        output.add(80.0, dataset=dataset, settings={"TRAINER.COOP.N_CTX": 8})
    (table,) = titled(output.tables(), "average")
    assert [row.method for row in table.rows] == ["CoOp (COOP.N_CTX 8)"]
    assert len(table.notes) == 2


def test_two_configs_on_one_dataset_are_two_rows_of_the_average(output: Output) -> None:
    for dataset in ("DTD", "EuroSAT"):
        for epochs in (50, 200):
            settings = {"OPTIM.MAX_EPOCH": epochs}
            output.add(float(epochs) / 10, dataset=dataset, config=f"ep{epochs}", settings=settings)
    (table,) = titled(output.tables(), "average")
    assert [(row.config, row.cells["base"].mean) for row in table.rows] == [
        ("ep50", 5.0),
        ("ep200", 20.0),
    ]


def test_varied_contains_every_setting_that_the_protocols_vary() -> None:
    """Compare the datasets and shots of each method and protocol."""
    table = ProtocolTable.load(ROOT / "configs" / "protocols.yaml")
    datasets = [path.stem for path in (ROOT / "configs" / "datasets").glob("*.yaml")]
    for method in table.methods:
        for protocol in ("base2new", "fewshot"):
            seen, trainers = [], set()
            for dataset in datasets:
                if table.is_synthetic(dataset) or protocol not in table.protocols(method):
                    continue
                for shots in table.setting(method, protocol, dataset).shots:
                    setting = table.setting(method, protocol, dataset, shots)
                    path = ROOT / "configs" / "trainers" / f"{setting.config_path}.yaml"
                    trainers.add(setting.trainer)
                    seen.append({**read_config(path), **setting.options})
            keys = {key for flat in seen for key in flat}
            differing = {key for key in keys if len({str(flat.get(key)) for flat in seen}) > 1}
            known = {key for trainer in trainers for key in varied(trainer)}
            assert differing <= known, (method, protocol)


@pytest.mark.parametrize(("trainer", "rows"), [("TaskRes", 1), ("CoOp", 2)])
def test_learning_rates_share_a_row_only_where_the_protocol_varies_them(
    trainer: str, rows: int, output: Output
) -> None:
    for dataset, rate in (("DTD", 0.1), ("EuroSAT", 0.2)):
        output.add(70.0, trainer=trainer, dataset=dataset, settings={"OPTIM.LR": rate})
    (table,) = [table for table in output.tables() if "average" in table.title]
    found = [note for note in table.notes if "OPTIM.LR" in note]
    if rows == 1:
        (row,) = table.rows
        assert row.cells["base"].mean == 70.0
        assert found == [f"{trainer}: the protocol varies OPTIM.LR: 0.1 (DTD), 0.2 (EuroSAT)"]
    else:  # no average: each setting has one of the two datasets
        assert not table.rows
        assert [note.split(": ")[1] for note in found] == [
            "no average (only DTD)",
            "no average (only EuroSAT)",
        ]


def test_zero_shot_is_averaged_over_the_datasets_of_trained_rows(output: Output) -> None:
    for dataset, accuracy in (("DTD", 50.0), ("EuroSAT", 60.0), ("UCF101", 90.0)):
        output.add(accuracy, **{**ZERO_SHOT, "dataset": dataset})
    for dataset in ("DTD", "EuroSAT"):
        output.add(70.0, dataset=dataset)
    (table,) = titled(output.tables(), "average")
    assert {row.method: row.cells["base"].mean for row in table.rows} == {
        "ZeroshotCLIP": 55.0,
        "CoOp": 70.0,
    }


def test_few_shot_averages(output: Output) -> None:
    for shots in (1, 16):
        for dataset, accuracy in (("DTD", 40.0), ("EuroSAT", 60.0)):
            output.add(accuracy + shots, classes="all", dataset=dataset, shots=shots)
    output.add(30.0, **{**ZERO_SHOT, "dataset": "DTD", "classes": "all"})
    (table,) = titled(output.tables(), "average")
    assert table.title == "All classes, by shots, average over 2 datasets"
    assert table.columns == ("0 shots", "1 shot", "16 shots")
    (row,) = table.rows
    assert (row.cells["1 shot"].mean, row.cells["16 shots"].mean) == (51.0, 66.0)
    assert table.notes == ["ZeroshotCLIP (critters): no average (only DTD)"]


def test_zero_shot_on_several_datasets_is_one_table(output: Output) -> None:
    for dataset, accuracy in (("DTD", 50.0), ("EuroSAT", 61.0)):
        output.add(accuracy, **{**ZERO_SHOT, "dataset": dataset, "classes": "all"})
    table = output.table()
    assert (table.title, list(table.columns)) == (
        "Zero-shot, all classes",
        ["DTD", "EuroSAT", "average"],
    )
    assert table.rows[0].cells["average"].mean == 55.5


def test_zero_shot_backbones_with_one_dataset_each_keep_their_tables(output: Output) -> None:
    for dataset, backbone in (("DTD", "RN50"), ("EuroSAT", "ViT-B/16")):
        fields = {"dataset": dataset, "classes": "all", "backbone": backbone}
        output.add(50.0, **{**ZERO_SHOT, **fields})
    assert [(table.title, table.about["dataset"]) for table in output.tables()] == [
        ("All classes, by shots", "DTD"),
        ("All classes, by shots", "EuroSAT"),
    ]


# Targets and domains


def test_domains_and_other_targets_are_two_tables_with_their_averages(output: Output) -> None:
    runs = {"ImageNetR": 75.0, "ImageNetV2": 64.0, "ImageNetA": 50.0, "ImageNetSketch": 47.0}
    output.add(71.0, classes="all", dataset="ImageNet")
    for dataset, accuracy in {**runs, "DTD": 40.0, "EuroSAT": 44.0}.items():
        output.add(accuracy, classes="all", dataset=dataset, source="ImageNet")
    (cross,) = titled(output.tables(), "Cross-dataset")
    (domains,) = titled(output.tables(), "Domain generalization")
    assert list(cross.columns) == ["ImageNet", "DTD", "EuroSAT", "average"]
    assert list(domains.columns) == [
        *("ImageNet", "ImageNetV2", "ImageNetSketch", "ImageNetA", "ImageNetR", "average"),
    ]
    assert cross.rows[0].cells["average"].mean == 42.0
    assert domains.rows[0].cells["average"].mean == 59.0  # of (64, 47, 50, 75), not of ImageNet
    assert domains.about["average"] == "the mean over the 4 targets"


def test_shifted_dataset_is_a_plain_target_of_another_source(output: Output) -> None:
    output.add(50.0, classes="all", dataset="ImageNetA", source="SUN397")
    (table,) = titled(output.tables(), "Cross-dataset")
    assert table.about["source"] == "SUN397"


def test_a_missing_target_seed_leaves_no_average(output: Output) -> None:
    output.add_seeds(40.0, 42.0, classes="all", dataset="DTD", source="ImageNet")
    output.add_seeds(44.0, classes="all", dataset="EuroSAT", source="ImageNet")
    (table,) = titled(output.tables(), "Cross-dataset")
    assert table.rows[0].cells["average"].mean is None
    assert "CoOp (critters): no average (missing: EuroSAT)" in table.notes


def test_distillation_on_the_targets_has_its_own_cross_dataset_table(output: Output) -> None:
    output.add(40.0, classes="all", dataset="DTD", source="ImageNet")
    for dataset, accuracy in (("DTD", 55.0), ("EuroSAT", 63.0)):
        settings = distilled("all", "cross")
        output.add(accuracy, classes="all", dataset=dataset, settings=settings, **DISTILLED)
    tables = titled(output.tables(), "Cross-dataset")
    assert [table.about["source"] for table in tables] == ["ImageNet", "that of the teacher"]
    assert [row.method for row in tables[1].rows] == ["PromptKD"]
    assert tables[1].rows[0].cells["average"].mean == 59.0
    assert "unlabeled of all classes" in tables[1].about["images"]
    assert titled(output.tables(), "by shots") == []


# Images


def methods(output: Output) -> list[list[str]]:
    return [[row.method for row in table.rows] for table in output.tables()]


def test_few_shot_distillation_shares_the_table_of_labeled_training(output: Output) -> None:
    output.add(70.0)
    output.add(72.0, trainer="PromptKD", settings=distilled("few_shot"))
    assert methods(output) == [["CoOp", "PromptKD"]]
    assert output.table().about["images"] == (
        "labeled few-shot and the few-shot ones without labels "
        "(DISTILL_ON, MODAL: few_shot base2novel)"
    )


def test_distillation_on_all_images_has_its_own_table(output: Output) -> None:
    output.add(60.0, **ZERO_SHOT)
    output.add(70.0)
    output.add(72.0, trainer="PromptKD", settings=distilled("few_shot"))
    output.add(85.0, trainer="PromptKD", settings=distilled("all"))
    output.add(86.0, trainer="PromptKD", settings=distilled("all"), shots=0)
    assert methods(output) == [
        ["ZeroshotCLIP", "CoOp", "PromptKD"],
        ["ZeroshotCLIP", "PromptKD"],
        ["ZeroshotCLIP", "PromptKD"],
    ]
    assert [table.about["shots"] for table in output.tables()] == ["16", "16", "all images"]


def test_distillations_for_two_protocols_are_kept_apart(output: Output) -> None:
    output.add(70.0)
    for modal in ("base2novel", "cross"):
        output.add(72.0, trainer="PromptKD", settings=distilled("few_shot", modal))
    assert methods(output) == [["CoOp", "PromptKD"], ["CoOp", "PromptKD"]]


# Published numbers


def entry(**fields: Any) -> Published:
    values: dict[str, Any] = {
        "method": "CoOp",
        "protocol": "base2new",
        "backbone": "ViT-B/16",
        "images": "labeled",
        "shots": 16,
        "trained_on": None,
        "results": {"DTD": (79.0, 41.0, 54.0), "average": (82.0, 63.0, 71.0)},
        "averaged": frozenset({"DTD", "EuroSAT"}),
        "source": "a paper, Table 1, https://example.org",
    }
    return Published(**{**values, **fields})


def with_published(output: Output, *entries: Published) -> list[Table]:
    return build(find(output.root).runs, Options(published=entries))


def test_published_rows_are_added_in_the_same_setting(output: Output) -> None:
    for dataset in ("DTD", "EuroSAT"):
        output.add(80.0, dataset=dataset)
        output.add(50.0, dataset=dataset, classes="new")
    dtd, eurosat, average = with_published(output, entry())
    assert [row.method for row in eurosat.rows] == ["CoOp"]
    for table, numbers in ((dtd, [79.0, 41.0, 54.0]), (average, [82.0, 63.0, 71.0])):
        ours, theirs = table.rows
        assert (ours.source, theirs.source) == ("", "a paper, Table 1, https://example.org")
        assert theirs.method == "CoOp (published, not run here)"
        assert [cell.mean for cell in theirs.cells.values()] == numbers


@pytest.mark.parametrize(
    "other",
    [
        {"backbone": "RN50"},
        {"shots": 4},
        {"images": "all base2novel"},
        {"protocol": "zero-shot"},
        {"results": {"UCF101": (79.0, 41.0, 54.0)}},
    ],
)
def test_published_rows_of_another_setting_are_left_out(
    output: Output, other: dict[str, Any]
) -> None:
    output.add(80.0, dataset="DTD")
    (table,) = with_published(output, entry(**other))
    assert [row.method for row in table.rows] == ["CoOp"]


def test_published_average_is_over_the_same_datasets(output: Output) -> None:
    for dataset in ("DTD", "UCF101"):
        output.add(80.0, dataset=dataset)
    average = titled(with_published(output, entry()), "average")[0]
    assert [row.method for row in average.rows] == ["CoOp"]


def test_published_few_shot_averages_are_added_by_shots(output: Output) -> None:
    for dataset in ("DTD", "EuroSAT"):
        for shots in (1, 16):
            output.add(80.0 + shots, dataset=dataset, shots=shots, classes="all")
    few = entry(
        protocol="few-shot", shots=None, results={"average": (67.6, 70.7, 74.0, 77.0, 79.9)}
    )
    other = entry(**{**vars(few), "averaged": frozenset({"DTD", "UCF101"})})
    average = titled(with_published(output, few, other), "average")[0]
    ours, theirs = average.rows
    assert {column: cell.mean for column, cell in theirs.cells.items()} == {
        "1 shot": 67.6,
        "16 shots": 79.9,
    }
    assert list(ours.cells) == ["1 shot", "16 shots"]


def test_published_zero_shot_numbers_are_added_for_any_images(output: Output) -> None:
    output.add(85.0, dataset="DTD", trainer="PromptKD", settings=distilled("all"), shots=0)
    zero = entry(method="CLIP", images="none", shots=None)
    (table,) = with_published(output, entry(), zero)
    assert [row.method for row in table.rows] == ["PromptKD", "CLIP (published, not run here)"]


def test_published_transfer_has_an_average_only_over_the_same_targets(output: Output) -> None:
    theirs = {"ImageNet": (71.0,), "DTD": (42.0,), "EuroSAT": (46.0,), "average": (44.0,)}
    known = entry(protocol="cross-dataset", trained_on="ImageNet", results=theirs)
    output.add(40.0, classes="all", dataset="DTD", source="ImageNet")
    output.add(41.0, classes="all", dataset="UCF101", source="ImageNet")
    (table,) = with_published(output, known)
    assert {name: cell.mean for name, cell in table.rows[1].cells.items()} == {"DTD": 42.0}
    output.add(41.0, classes="all", dataset="EuroSAT", source="ImageNet")
    (table,) = with_published(output, entry(**{**vars(known), "results": theirs}))
    assert "average" not in table.rows[1].cells


def test_every_format_marks_published_numbers_and_names_their_source(output: Output) -> None:
    output.add(80.0, dataset="DTD")
    tables = with_published(output, entry())
    markdown = FORMATS["markdown"](tables, Found())
    assert "CoOp (published, not run here)" in markdown
    assert "- **Published** CoOp: a paper, Table 1, https://example.org" in markdown
    latex = FORMATS["latex"](tables, Found())
    assert "% published: CoOp: a paper, Table 1, https://example.org" in latex
    assert "CoOp (published, not run here) & - & - & 79.00 & 41.00 & 54.00" in latex
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](tables, Found()))))
    assert rows[0]["source"] == "run here"
    assert {row["source"] for row in rows if "published" in row["method"]} == {
        "a paper, Table 1, https://example.org"
    }
    (table,) = json.loads(FORMATS["json"](tables, Found()))["tables"]
    assert [row["published"] for row in table["rows"]] == [False, True]
    assert table["rows"][1]["source"] == "a paper, Table 1, https://example.org"


def test_command_line_loads_published_numbers(
    output: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output.add(80.0, dataset="DescribableTextures")
    assert results.main([str(output.root)]) == 0
    shown = capsys.readouterr().out
    assert "CoOp (published, not run here)" in shown
    assert "TransAgent (arXiv 2410.12183), Table 1, https://arxiv.org/abs/2410.12183" in shown
    assert results.main([str(output.root), "--published", str(tmp_path / "no.yaml")]) == 2
    assert "cannot read the published numbers" in capsys.readouterr().err


# Figures


def test_few_shot_curves_are_plotted_beside_the_bars(
    output: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dataset in ("DTD", "EuroSAT"):
        output.add(30.0, **{**ZERO_SHOT, "dataset": dataset, "classes": "all"})
        for shots in (1, 4, 16):
            output.add_seeds(40.0, 42.0 + shots, classes="all", dataset=dataset, shots=shots)
    output.add(60.0)
    path = tmp_path / "plots" / "results.png"
    assert results.main([str(output.root), "--plot", str(path)]) == 0
    curves = path.with_name("results-few-shot.png")
    assert f"wrote {path}\nwrote {curves}\n" in capsys.readouterr().out
    assert path.read_bytes()[:4] == curves.read_bytes()[:4] == b"\x89PNG"


def test_missing_error_bars_are_not_passed_to_matplotlib(
    output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single seed has no std, and a column with a missing seed has no average."""
    output.add(70.0, trainer="CoCoOp")
    output.add_seeds(70.0, 72.0, trainer="MaPLe")
    output.add_seeds(60.0, classes="new", trainer="MaPLe")
    for shots in (1, 4, 16):
        output.add_seeds(*[40.0 + shots, 42.0][: 2 - (shots == 4)], classes="all", shots=shots)
    passed = []
    errorbar = Axes.errorbar

    def record(axes: Axes, xs: Any, ys: Any, **style: Any) -> Any:
        (std,) = style.get("xerr") or style.get("yerr")
        passed.append((xs[0], ys[0], std))
        return errorbar(axes, xs, ys, **style)

    monkeypatch.setattr(Axes, "errorbar", record)
    results.plot(output.tables(), tmp_path / "plot.png")
    bar, *curve = passed
    assert (bar[0], bar[2]) == (71.0, pytest.approx(2**0.5))
    assert curve == [(0, 41.5, pytest.approx(0.5**0.5)), (2, 49.0, pytest.approx(98**0.5))]


def test_help_imports_neither_torch_nor_matplotlib() -> None:
    for script in ("results.py", "convert_checkpoint.py", "export_config.py"):
        code = (
            "import runpy, sys; sys.argv = [sys.argv[1], '--help']\n"
            "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
            "except SystemExit: print(*{'torch', 'matplotlib', 'numpy'} & set(sys.modules))"
        )
        command = [sys.executable, "-c", code, str(ROOT / "scripts" / script)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        assert shown.stdout.splitlines()[-1] == "", script
