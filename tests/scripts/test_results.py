"""Result tables, compared with numbers computed by hand."""

import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from dassl.utils import UsageError
from scripts import results
from scripts.tables.load import ADDED, Found, find
from scripts.tables.render import FORMATS
from scripts.tables.rows import Options
from scripts.tables.statistics import Cell, harmonic
from scripts.tables.tables import build
from tests.scripts.fake_output import RESULT, ZERO_SHOT, Output
from trainers.refiner_controls import Controls
from trainers.settings import DEFAULTS

WITHOUT_RESULT = {
    Path("output/stopped"): "unfinished",
    Path("output/untested"): "finished without a test",
}


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


def test_base_new_and_the_harmonic_mean_of_their_averages(output: Output) -> None:
    output.add_seeds(70.0, 72.0, 74.0)
    output.add_seeds(50.0, 60.0, 40.0, classes="new")
    (row,) = output.table().rows
    assert (row.method, row.config, row.selection) == ("CoOp", "critters", "last_step, epoch 10")
    assert row.cells["base"].mean == pytest.approx(72.0)
    assert row.cells["base"].std == pytest.approx(2.0)  # n - 1: sqrt((4 + 0 + 4) / 2)
    assert row.cells["new"].mean == pytest.approx(50.0)
    assert row.cells["new"].std == pytest.approx(10.0)
    # 2 * 72 * 50 / 122 = 59.016; the average of the seeds' own would be 58.573
    assert row.cells["H"].mean == pytest.approx(59.0164, abs=1e-4)
    assert row.cells["H"].values[1] == pytest.approx(58.3333, abs=1e-4)
    assert row.cells["H"].std == pytest.approx(6.7655, abs=1e-3)  # of 58.33, 65.45, 51.93
    assert output.table().notes == []


def test_one_seed_has_no_std(output: Output) -> None:
    output.add(70.0)
    output.add(50.0, classes="new")
    (row,) = output.table().rows
    assert row.cells["base"].mean == 70.0
    assert row.cells["base"].std is None
    assert row.cells["H"].std is None


def test_no_average_if_a_new_seed_is_missing(output: Output) -> None:
    output.add_seeds(70.0, 72.0, 74.0)
    output.add_seeds(50.0, 60.0, classes="new")
    table = output.table()
    (row,) = table.rows
    assert row.cells["base"].mean == pytest.approx(72.0)
    assert (row.cells["new"].mean, row.cells["H"].mean, row.cells["H"].std) == (None, None, None)
    assert table.notes == ["CoOp (critters): no average of new (missing: seed 3)"]


def test_seeds_of_only_one_method_are_noted(output: Output) -> None:
    output.add_seeds(70.0, 72.0, 74.0)
    output.add(60.0, trainer="TextRefinerCoOp", seed=2)
    table = output.table()
    assert [row.cells["base"].mean for row in table.rows] == [pytest.approx(72.0), None]
    assert "TextRefinerCoOp (critters): no average of base (missing: seeds 1, 3)" in table.notes


def test_expected_seeds_can_be_given(output: Output) -> None:
    output.add_seeds(70.0, 72.0, 74.0, 76.0)
    missing = output.table(1, 2, 5)
    assert missing.rows[0].cells["base"].mean is None
    assert missing.notes[0] == "CoOp (critters): no average of base (missing: seed 5)"
    assert missing.notes[-1] == "CoOp (critters): seeds 3, 4 ignored, not among the expected seeds"
    assert output.table(1, 2).rows[0].cells["base"].mean == pytest.approx(71.0)


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"TRAINER.COOP.N_CTX": 16, "OPTIM.LR": 0.002}},
        {"settings": {"TRAINER.COOP.N_CTX": 4, "OPTIM.LR": 0.1}},
        {"selection": "best_val"},
        {"config": "vit_b16_ep50_ctxv1"},
        {"epoch": 5},
    ],
)
def test_different_settings_are_different_rows(output: Output, other: dict[str, Any]) -> None:
    output.add(70.0)
    output.add(80.0, **other)
    table = output.table()
    assert [row.cells["base"].mean for row in table.rows] == [70.0, 80.0]


def test_rows_of_one_trainer_are_labeled_with_differing_options(output: Output) -> None:
    output.add(70.0, settings={"TRAINER": {"TEXTREFINER": {"CACHE": True, "TOPK": 5}}})
    output.add(80.0, settings={"TRAINER": {"TEXTREFINER": {"CACHE": False, "TOPK": 5}}})
    names = [row.method for row in output.table().rows]
    assert names == ["CoOp (TEXTREFINER.CACHE True)", "CoOp (TEXTREFINER.CACHE False)"]


def test_rows_with_a_given_name_are_labeled_with_differing_options(output: Output) -> None:
    output.add(70.0, settings={"OPTIM.LR": 0.1})
    output.add(80.0, settings={"OPTIM.LR": 0.2})
    output.add(90.0, trainer="TextRefinerCoOp")
    names = {"CoOp": "ours"}
    (table,) = build(find(output.root).runs, Options(name=lambda run: names.get(run.trainer)))
    assert [row.method for row in table.rows] == [
        *("ours (OPTIM.LR 0.1)", "ours (OPTIM.LR 0.2)"),
        "TextRefinerCoOp",
    ]


@pytest.mark.parametrize(
    "other", [{"dataset": "DTD"}, {"backbone": "RN50"}, {"shots": 4}, {"split": "val"}]
)
def test_different_dataset_backbone_shots_or_split_are_different_tables(
    output: Output, other: dict[str, Any]
) -> None:
    output.add(70.0)
    output.add(80.0, **other)
    own = [table for table in output.tables() if "average" not in table.title]
    assert [table.rows[0].cells["base"].mean for table in own] == [70.0, 80.0]


def test_best_validation_epochs_may_differ_by_seed(output: Output) -> None:
    output.add(70.0, selection="best_val", epoch=3, seed=1)
    output.add(72.0, selection="best_val", epoch=7, seed=2)
    (row,) = output.table().rows
    assert (row.selection, row.cells["base"].mean) == ("best_val", 71.0)


def test_zero_shot_is_in_every_table_of_its_dataset_without_missing_seeds(output: Output) -> None:
    output.add(60.0, **ZERO_SHOT)
    output.add_seeds(70.0, 72.0)
    output.add_seeds(65.0, 67.0, shots=4)
    sixteen, four = output.tables()
    assert [row.method for row in sixteen.rows] == ["ZeroshotCLIP", "CoOp"]
    assert [row.method for row in four.rows] == ["ZeroshotCLIP", "CoOp"]
    assert (sixteen.rows[0].selection, sixteen.about["shots"]) == ("not trained", "16")
    assert not any("Zeroshot" in note for note in sixteen.notes)


def test_table_of_zero_shot_only(output: Output) -> None:
    output.add(60.0, **ZERO_SHOT)
    assert output.table().rows[0].cells["base"].mean == 60.0


def test_two_different_results_for_a_seed_are_noted_and_left_out(output: Output) -> None:
    first = output.add(70.0)
    second = output.add(75.0)
    table = output.table()
    assert table.rows[0].cells["base"].mean is None
    assert table.notes[0] == (
        f"CoOp (critters): base has two results for seed 1, among {first} and {second}"
    )


def test_the_same_result_twice_is_one_result(output: Output) -> None:
    output.add(70.0)
    output.add(70.0)
    assert output.table().rows[0].cells["base"].mean == 70.0


def test_few_shot_columns_are_sorted_and_configs_may_differ_by_shots(output: Output) -> None:
    output.add(50.0, classes="all", **ZERO_SHOT)
    output.add(55.0, classes="all", shots=1, config="vit_b16_ep50", epoch=50)
    output.add(70.0, classes="all", shots=16, config="vit_b16", epoch=200)
    table = output.table()
    assert table.columns == ("0 shots", "1 shot", "16 shots")
    zero, coop = table.rows
    assert (zero.cells["0 shots"].mean, coop.cells["1 shot"].mean) == (50.0, 55.0)
    assert coop.config == "vit_b16_ep50 (1 shot), vit_b16 (16 shots)"
    assert coop.selection == "last_step"


def test_two_configs_at_the_same_shots_are_two_rows(output: Output) -> None:
    output.add(55.0, classes="all", shots=1, config="vit_b16_ep50", epoch=50)
    output.add(70.0, classes="all", shots=16, config="vit_b16", epoch=200)
    output.add(71.0, classes="all", shots=16, config="vit_b16_ep50", epoch=50)
    assert [row.config for row in output.table().rows] == ["vit_b16_ep50", "vit_b16"]


def test_cross_dataset(output: Output) -> None:
    output.add(60.0, classes="all", **{**ZERO_SHOT, "dataset": "DTD"})
    output.add(71.0, classes="all", dataset="ImageNet")
    output.add(40.0, classes="all", dataset="EuroSAT", source="ImageNet")
    output.add(45.0, classes="all", dataset="DTD", source="ImageNet")
    output.add(99.0, classes="all", dataset="DTD", source="SUN397")
    tables = [table for table in output.tables() if table.title == "Cross-dataset"]
    assert [table.about["source"] for table in tables] == ["ImageNet", "SUN397"]
    assert list(tables[0].columns) == ["ImageNet", "DTD", "EuroSAT", "average"]
    zero, coop = tables[0].rows
    assert {name: cell.mean for name, cell in coop.cells.items()} == {
        "ImageNet": 71.0,
        "EuroSAT": 40.0,
        "DTD": 45.0,
        "average": 42.5,  # of the targets
    }
    assert {name: cell.mean for name, cell in zero.cells.items()} == {"DTD": 60.0, "average": None}
    assert "ZeroshotCLIP (critters): no average (missing: EuroSAT)" in tables[0].notes
    assert list(tables[1].columns) == ["DTD"]  # one target has no average


def test_collapsed_seed_is_noted(output: Output) -> None:
    output.add_seeds(63.0, 12.0, 62.0)
    table = output.table()
    assert table.notes == [
        "CoOp (critters): base, seed 2 looks collapsed: 12.00 beside 63.00, 62.00"
    ]


def test_collapse_is_more_than_15_points_below_the_median_of_the_others() -> None:
    assert Cell({1: 60.0, 2: 60.0, 3: 45.0}).collapsed() == []
    assert Cell({1: 60.0, 2: 60.0, 3: 44.9}).collapsed() == [3]
    assert Cell({1: 60.0, 2: 20.0, 3: 61.0, 4: 20.0, 5: 62.0}).collapsed() == [2, 4]
    assert Cell({1: 60.0}).collapsed() == []


def test_harmonic_mean_without_new_is_none() -> None:
    cell = harmonic(Cell({1: 60.0}), Cell({}))
    assert (cell.mean, cell.std, cell.values) == (None, None, {})


def test_unfinished_folders_are_listed(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    output.add(70.0)
    no_result = output.root / "stopped"
    no_result.mkdir()
    (no_result / "log.txt").touch()
    failed = output.add(71.0, seed=2)
    (failed / "job.json").write_text("{}")
    found = find(output.root)
    assert found.without_result == {failed: "unfinished", no_result: "unfinished"}
    assert len(found.runs) == 1
    assert results.main([str(output.root)]) == 0
    assert f"- **Unfinished** {no_result}" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["markdown", "csv"])
def test_job_that_finished_without_a_test_is_not_unfinished(
    output: Output, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = output.root / "untested"
    folder.mkdir()
    for name in ("log.txt", "job.json", "finished.json"):
        (folder / name).write_text("{}")
    assert results.main([str(output.root), "--format", form]) == 0
    shown = capsys.readouterr()
    text = shown.out if form == "markdown" else shown.err
    assert str(folder) in text
    assert "inished without a test" in text
    assert "nfinished:" not in text
    assert "Unfinished" not in text


def test_result_without_required_fields_is_reported(output: Output) -> None:
    folder = output.add(70.0)
    (folder / "result.json").write_text('{"trainer": "CoOp"}')
    with pytest.raises(UsageError, match=r"Object missing required field dataset"):
        find(output.root)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("3", "Expected object, got int"),
        (json.dumps({**RESULT, "settings": 3}), "Expected object, got int - at $.settings"),
        (json.dumps({**RESULT, "accuracy": "high"}), "Expected float, got str - at $.accuracy"),
    ],
)
def test_malformed_result_is_reported(
    output: Output, content: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (output.add(70.0) / "result.json").write_text(content)
    assert results.main([str(output.root)]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--out", "{file}/table.md"], "error: cannot write {file}/table.md: "),
        (["--plot", "{file}/bars.png"], "error: cannot write {file}/bars.png: "),
        (["--plot", "bars.foo"], "error: cannot plot to bars.foo; use the suffix .eps"),
        (["--plot", "bars"], "error: cannot plot to bars; use the suffix .eps"),
    ],
)
def test_unwritable_path_is_reported_in_one_sentence(
    output: Output,
    tmp_path: Path,
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.add(70.0)
    file = tmp_path / "file"
    file.touch()
    assert results.main([str(output.root), *(word.format(file=file) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(sentence.format(file=file))
    assert error.count("\n") == 1


# Formats


@pytest.fixture
def filled(output: Output) -> Output:
    output.add_seeds(70.0, 72.0, 74.0)
    output.add_seeds(50.0, 60.0, classes="new")
    return output


def test_markdown(filled: Output) -> None:
    text = FORMATS["markdown"](filled.tables(), Found())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert (
        "### Base to new classes (dataset Critters, backbone ViT-B/16, split test, shots 16, "
        "images labeled few-shot)" in lines
    )
    assert "| Method | Config | Selection | base | new | H |" in lines
    assert "| CoOp | critters | last_step, epoch 10 | 72.00 ± 2.00 | n/a | n/a |" in lines
    assert "| CoOp | critters | 2 | 72.00 | 60.00 | 65.45 |" in lines
    assert "| CoOp | critters | 3 | 74.00 | n/a | n/a |" in lines
    assert "- **Note** CoOp (critters): no average of new (missing: seed 3)" in lines


def test_latex(filled: Output) -> None:
    found = Found([], WITHOUT_RESULT)
    text = FORMATS["latex"](filled.tables(), found)
    assert r"CoOp & critters & last\_step, epoch 10 & 72.00 $\pm$ 2.00 & n/a & n/a \\" in text
    assert r"\begin{tabular}{lllrrr}" in text
    assert text.count(r"\begin{table}[t]") == text.count(r"\end{table}") == 1
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert "% CoOp (critters): no average of new (missing: seed 3)" in text
    assert "% unfinished: output/stopped" in text
    assert "% finished without a test: output/untested" in text


def test_csv(filled: Output) -> None:
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"](filled.tables(), Found()))))
    base, new, _ = rows
    assert (base["dataset"], base["column"], base["mean"], base["std"]) == (
        *("Critters", "base", "72.0000", "2.0000"),
    )
    assert (new["mean"], new["seed 2"], new["seed 3"]) == ("", "60.0000", "")


def test_json(filled: Output) -> None:
    found = Found([], WITHOUT_RESULT)
    content = json.loads(FORMATS["json"](filled.tables(), found))
    (table,) = content["tables"]
    cells = table["rows"][0]["cells"]
    assert cells["base"] == {
        "mean": 72.0,
        "std": 2.0,
        "seeds": {"1": 70.0, "2": 72.0, "3": 74.0},
        "missing": [],
        "conflicting": [],
    }
    assert (cells["new"]["mean"], cells["new"]["missing"]) == (None, [3])
    assert content["unfinished"] == ["output/stopped"]
    assert content["untested"] == ["output/untested"]


def test_output_file_is_written_and_notes_are_printed(
    filled: Output, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tables" / "results.csv"
    assert results.main([str(filled.root), "--format", "csv", "--out", str(path)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"wrote {path}\n"
    assert "note: CoOp (critters): no average of new (missing: seed 3)" in shown.err
    assert [file.name for file in path.parent.iterdir()] == ["results.csv"]


def test_folder_without_runs_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main([str(tmp_path / "nowhere")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert results.main([str(tmp_path)]) == 2
    assert "no run below" in capsys.readouterr().err


def test_plot_is_a_png(filled: Output, tmp_path: Path) -> None:
    filled.add_seeds(65.0, 66.0, 67.0, trainer="TextRefinerCoOp")
    path = tmp_path / "plots" / "bars.png"
    assert results.main([str(filled.root), "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def data_of(name: str, root: str, classes: list[str], images: str) -> dict[str, object]:
    """Return the record of a run's data."""
    return {
        "name": name,
        "root": root,
        "classes": classes,
        "all_classes": classes,
        "test": {"images": 10, "sha256": images},
    }


def test_own_folders_of_other_content_are_other_datasets(output: Output) -> None:
    first = data_of("birds", "/a/birds", ["jay", "tit"], "1" * 64)
    moved = {**first, "root": "/c/birds"}
    second = data_of("birds", "/b/birds", ["jay", "owl"], "2" * 64)
    output.add(71.0, dataset="birds", seed=1, data=first)
    output.add(72.0, dataset="birds", seed=2, data=moved)
    assert {run.dataset for run in find(output.root).runs} == {"birds"}
    output.add(73.0, dataset="birds", seed=1, data=second)
    output.add(74.0, dataset="birds", seed=3)  # of an earlier version, without the record
    names = [run.dataset for run in find(output.root).runs]
    assert names == ["birds (/a/birds)", "birds (/c/birds)", "birds (/b/birds)", "birds"]


def test_images_that_changed_in_place_are_another_dataset(output: Output) -> None:
    for images in ("1", "2"):
        output.add(71.0, dataset="x", data=data_of("x", "/x", ["jay", "tit"], images * 64))
    names = [run.dataset for run in find(output.root).runs]
    assert names == ["x (/x, images 11111111)", "x (/x, images 22222222)"]


def test_weights_that_changed_under_one_name_are_another_backbone(output: Output) -> None:
    for number in (1, 1, 2):
        clip = {"text_projection": {"shape": "2 x 2", "sample": f"0.{number}"}}
        output.add(71.0, backbone="w.pt", clip=clip)
    names = [run.backbone for run in find(output.root).runs]
    assert names[0] == names[1] != names[2]
    assert all(name.startswith("w.pt (weights ") for name in names)


def test_a_row_of_several_commits_has_a_note(output: Output) -> None:
    one, other = "1" * 40, "2" * 40 + "-dirty"
    output.add_seeds(70.0, 72.0, commit=one)
    output.add(71.0, seed=3)  # of an earlier version, without the record
    output.add_seeds(60.0, 61.0, 62.0, trainer="MaPLe", commit=other)  # another row
    assert output.table().notes == []
    output.add_seeds(50.0, 51.0, 52.0, 53.0, classes="new", commit=other)
    notes = [note for note in output.table(1, 2, 3).notes if "commit" in note]
    assert notes == [
        "CoOp (critters): runs of several versions of the code, by commit: 111111111 (Critters "
        "base seed 1, Critters base seed 2), 222222222-dirty (4 runs)"
    ]


def test_an_average_over_datasets_of_several_commits_has_a_note(output: Output) -> None:
    for dataset, digit in (("DTD", "1"), ("EuroSAT", "2")):
        output.add(70.0, dataset=dataset, commit=digit * 40)
    noted = [table for table in output.tables() if table.notes]
    assert [table.title for table in noted] == ["Base to new classes, average over 2 datasets"]
    (note,) = noted[0].notes
    assert note.endswith("111111111 (DTD base seed 1), 222222222 (EuroSAT base seed 1)")


def test_results_before_the_controls_share_a_row_with_later_ones(output: Output) -> None:
    controls = [field.name.upper() for field in fields(Controls)]
    assert set(ADDED) == {*controls, "READ_SCALE", "FREEZE_ALIGN", "LOCAL_ON"}
    assert {key: DEFAULTS["TEXTREFINER"][key] for key in ADDED} == ADDED
    early = {"TRAINER.COOP.N_CTX": 4, "TRAINER.TEXTREFINER.CACHE_SIZE": 25}
    late = early | {f"TRAINER.TEXTREFINER.{key}": value for key, value in ADDED.items()}
    output.add(70.0, seed=1, settings=early)
    output.add(72.0, seed=2, settings=late)
    (row,) = output.table().rows
    assert row.cells["base"].mean == 71.0
    output.add(72.0, seed=3, settings=late | {"TRAINER.TEXTREFINER.READ_SCALE": 10.0})
    assert len(output.table().rows) == 2
    output.add(73.0, seed=3, settings={"TRAINER.COOP.N_CTX": 4})
    plain = [run for run in find(output.root).runs if run.accuracy == 73.0]
    assert plain[0].settings == {"TRAINER.COOP.N_CTX": 4}
