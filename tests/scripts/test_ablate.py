"""The ablation with a fake train.py, and its table compared with numbers computed by hand."""

import json
from pathlib import Path

import pytest

from scripts import ablate
from scripts.tables.statistics import Cell
from tests.scripts.fake_project import make_project
from trainers.settings import DEFAULTS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", tmp_path)
    return tmp_path


def test_every_variant_sets_the_options_in_its_name() -> None:
    defaults = DEFAULTS["TEXTREFINER"]
    seen = set()
    for name, variant in ablate.VARIANTS.items():
        assert variant.settings.keys() <= defaults.keys()
        changed = {key for key, value in variant.settings.items() if value != str(defaults[key])}
        assert changed == set(variant.settings), name  # a default equals the full method
        seen.add((variant.method, tuple(sorted(variant.settings.items()))))
    assert len(seen) == len(ablate.VARIANTS)
    assert {"coop", "full", "no-cache", "cache-size-100", "alpha-1.0", "momentum-0.99"} <= set(
        ablate.VARIANTS
    )


def test_each_variant_has_a_row_and_a_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["critters", "1", "2", "--variants", "coop", "full", "no-cache"]
    assert ablate.main(words, {}) == 0
    out = project / "output" / "ablate" / "critters"
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert list(rows) == ["coop", "full", "no-cache"]
    assert rows["no-cache"]["options"] == {"TRAINER.TEXTREFINER.CACHE": "False"}
    assert rows["full"]["cells"]["base"]["seeds"] == {"1": 61.0, "2": 62.0}
    log = out / "no-cache/base2new/train_base/critters/shots_16/TextRefinerCoOp/critters/seed2"
    assert "TRAINER.TEXTREFINER.CACHE False" in (log / "log.txt").read_text()
    shown = capsys.readouterr().out
    assert (out / "results.md").read_text() in shown
    assert "[12/12] " in shown
    assert "no-cache: textrefiner base2new, critters, new classes, 16-shot, seed 2: " in shown
    assert "- the cache: base +0.00 (= =), new +0.00 (= =), H +0.00 (= =)" in shown

    again = (log / "log.txt").read_text()
    assert ablate.main(words, {}) == 0
    assert capsys.readouterr().out.count(": skipped") == 12
    assert (log / "log.txt").read_text() == again


def test_failed_variant_has_no_average_and_the_others_continue(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "3")
    assert ablate.main(["critters", "1", "--variants", "full", "coop", "--workers", "1"], {}) == 1
    shown = capsys.readouterr().out
    assert shown.count("failed with exit code 3") == 2
    assert "without averages: full, coop" in shown


def test_difference_of_averages_and_sign_per_seed() -> None:
    one, other = Cell({1: 70.0, 2: 72.0, 3: 74.0}), Cell({1: 71.0, 2: 72.0, 3: 70.0})
    assert ablate.difference(one, other) == "+1.00 (- = +)"
    assert ablate.difference(one, Cell({1: 71.0}, missing=(2, 3))) == "n/a"


def test_the_table_by_hand() -> None:
    def row(name: str, base: float, new: float) -> ablate.Row:
        return ablate.Row(ablate.VARIANTS[name], Cell({1: base}), Cell({1: new}))

    rows = {"full": row("full", 90.0, 60.0), "no-cache": row("no-cache", 80.0, 80.0)}
    text = ablate.render(rows, "critters", [1])
    assert "| no cache " in text
    assert "| 80.00 | 80.00 | 80.00 | +8.00 (+)" in text  # H of the full method: 72
    assert "- the cache: base +10.00 (+), new -20.00 (-), H -8.00 (-)" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["critters", "1", "--variants", "no-cash"], "unknown variant 'no-cash': did you mean"),
        (
            ["critters", "1", "--workers", "0"],
            "--workers: takes a whole number from 1",
        ),
        (["criters", "1"], "unknown dataset 'criters'"),
        (["critters", "1", "--set", "A.B"], "'A.B' has no value"),
        (
            ["critters", "1", "--set", "TRAINER.TEXTREFINER.ALPHA", "0.3"],
            "some variants set TRAINER.TEXTREFINER.ALPHA themselves",
        ),
        (["dtd", "1"], "provide what is listed as missing first"),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(
    project: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(words, {}) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (project / "output").exists()


def test_dry_run_lists_variants_and_runs_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(["critters", "1", "--dry-run"], {}) == 0
    shown = capsys.readouterr().out
    assert f"{2 * len(ablate.VARIANTS)} jobs: {len(ablate.VARIANTS)} variants x 1 seeds" in shown
    assert not (project / "output").exists()
