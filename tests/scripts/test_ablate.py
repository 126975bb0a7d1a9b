"""The ablation with a fake train.py, and its tables compared with numbers computed by hand."""

import json
from pathlib import Path
from statistics import harmonic_mean

import pytest

from scripts import ablate
from scripts.ablation.learners import Learner, learners
from scripts.ablation.rows import ALPHA, QUESTIONS, REG_WEIGHT, ROWS
from scripts.ablation.table import Ablation, Row, render
from scripts.runner.job import Workspace
from scripts.tables.statistics import Cell
from tests.scripts.fake_project import ROOT, make_project
from trainers.settings import DEFAULTS, RefinerSettings

COOP = Learner("CoOp", "COOP", "coop", "textrefiner")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", tmp_path)
    return tmp_path


def test_every_row_sets_the_options_in_its_name() -> None:
    defaults = DEFAULTS["TEXTREFINER"]
    seen = set()
    for name, variant in ROWS.items():
        assert variant.settings.keys() <= defaults.keys()
        changed = {key for key, value in variant.settings.items() if value != str(defaults[key])}
        assert changed == set(variant.settings), name  # a default equals the full method
        seen.add((variant.model, variant.reg_factor, tuple(sorted(variant.settings.items()))))
    assert len(seen) == len(ROWS)
    assert {"plain", "full", "no-cache", "cache-size-100", "w1", "read-scale-30"} <= set(ROWS)
    assert {name for _, *names in QUESTIONS for name in names} <= set(ROWS)


def test_every_row_is_an_allowed_combination() -> None:
    for variant in ROWS.values():
        values = {
            key.lower(): json.loads(value.lower()) if value[0] in "0123456789TF" else value
            for key, value in variant.settings.items()
        }
        RefinerSettings(**values)


def test_alpha_times_reg_weight_is_held_fixed() -> None:
    assert DEFAULTS["TEXTREFINER"]["ALPHA"] == ALPHA
    for node, weight in REG_WEIGHT.items():
        assert weight == DEFAULTS[node]["REG_WEIGHT"]
        fixed = [name for name in ROWS if name.endswith("reg-fixed")]
        assert len(fixed) == 4
        for name in fixed:
            pairs = ROWS[name].options(node)
            alpha = float(pairs.pop("TRAINER.TEXTREFINER.ALPHA"))
            assert list(pairs) == [f"TRAINER.{node}.REG_WEIGHT"]
            product = alpha * float(pairs[f"TRAINER.{node}.REG_WEIGHT"])
            assert product == pytest.approx(ALPHA * weight)
    # A node with REG_WEIGHT alone, such as MMRL, has a loss of that name, not the regularizer's.
    both = {"LOCAL_WEIGHT", "REG_WEIGHT"}
    assert {node for node, keys in DEFAULTS.items() if both <= set(keys)} == set(REG_WEIGHT)


def test_every_trainer_with_a_refined_twin_is_a_learner() -> None:
    table = Workspace(ROOT, ROOT / "data", ROOT / "output").table
    found = learners(table)
    assert {"CoOp", "CoCoOp", "MaPLe", "PromptSRC", "PromptKD"} <= set(found)
    assert found["CoOp"] == COOP
    for trainer, learner in found.items():
        for method, name in ((learner.plain, trainer), (learner.refined, f"TextRefiner{trainer}")):
            assert table.setting(method, "base2new", "").trainer == name
        assert DEFAULTS.keys() >= {learner.config_node}


def test_each_row_has_a_line_and_a_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["critters", "--seeds", "1", "2", "--rows", "own-schedule,plain,full,no-cache"]
    assert ablate.main(words, {}) == 0
    out = project / "output" / "ablate" / "critters"
    content = json.loads((out / "results.json").read_text())["methods"]["CoOp"]
    rows = content["rows"]
    assert list(rows) == ["plain", "full", "no-cache"]
    assert "own-schedule: the same as plain" in content["notes"][0]
    assert rows["no-cache"]["options"] == {"TRAINER.TEXTREFINER.CACHE": "False"}
    assert rows["full"]["cells"]["base"]["seeds"] == {"1": 61.0, "2": 62.0}
    assert rows["no-cache"]["minus_full"]["base"]["differences"] == {"1": 0.0, "2": 0.0}
    assert content["about"]["dataset"] == "Critters"
    log = out / "CoOp/no-cache/base2new/train_base/critters/shots_16/TextRefinerCoOp/critters/seed2"
    assert "TRAINER.TEXTREFINER.CACHE False" in (log / "log.txt").read_text()
    shown = capsys.readouterr().out
    assert (out / "results.md").read_text() in shown
    assert "[12/12] " in shown
    assert "no-cache: textrefiner base2new, critters, new classes, 16-shot, seed 2: " in shown
    equal = "+0.00 (0.00 to 0.00; 0 of 2 higher, 2 equal, p 1)"
    assert f"- the cache: base {equal}, new {equal}, H {equal}" in shown
    assert (
        "(dataset Critters, backbone toy, split test, shots 16, images labeled, seeds 1, 2)"
        in shown
    )

    again = (log / "log.txt").read_text()
    assert ablate.main(words, {}) == 0
    assert capsys.readouterr().out.count(": skipped") == 12
    assert (log / "log.txt").read_text() == again


def test_plain_row_has_the_config_of_the_refined_method(project: Path) -> None:
    workspace = Workspace(project, project / "data", project / "output")
    args = ablate.parse(["dtd", "--seeds", "1", "--rows", "own-schedule,plain,full"])
    own, plain, full = ablate.make_parts(args, [COOP], workspace)
    assert [part.jobs[0].trainer for part in (own, plain, full)] == [
        "CoOp",
        "CoOp",
        "TextRefinerCoOp",
    ]
    assert own.jobs[0].config == "CoOp/vit_b16_ctxv1"
    assert plain.jobs[0].config == full.jobs[0].config == "TextRefinerCoOp/vit_b16_ep10_ctxv1"
    assert [part.jobs[1].epoch for part in (own, plain, full)] == [200, 10, 10]
    for one, other in zip(plain.jobs, full.jobs, strict=True):
        assert one.options == other.options
    assert plain.jobs[1].model_folder == plain.jobs[0].folder
    assert plain.jobs[0].folder == (
        project / "output/CoOp/plain/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ep10_ctxv1/seed1"
    )


def test_rows_of_a_student_share_their_teacher() -> None:
    workspace = Workspace(ROOT, ROOT / "data", Path("/nowhere"))
    args = ablate.parse(
        ["critters", "--seeds", "1", "--rows", "plain,full", "--method", "PromptKD"]
    )
    learner = learners(workspace.table)["PromptKD"]
    plain, full = ablate.make_parts(args, [learner], workspace)
    assert plain.jobs[0] == full.jobs[0]
    assert plain.jobs[0].trainer == "PromptSRC"
    assert {job.folder for job in plain.jobs[1:]}.isdisjoint(job.folder for job in full.jobs[1:])
    key = "TRAINER.PROMPTKD.TEACHER_WEIGHTS"
    assert str(plain.jobs[0].folder) in plain.jobs[1].options[key]


def test_failed_row_has_no_average_and_the_others_continue(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "3")
    words = ["critters", "--seeds", "1", "--rows", "full,plain", "--workers", "1"]
    assert ablate.main(words, {}) == 1
    shown = capsys.readouterr().out
    assert shown.count("failed with exit code 3") == 2
    assert "without averages: full, plain" in shown


def test_the_table_by_hand() -> None:
    def row(name: str, base: list[float], new: list[float]) -> Row:
        cells = [Cell(dict(enumerate(values, start=1))) for values in (base, new)]
        return Row(ROWS[name], *cells)

    full, other = ([90.0, 91.0], [60.0, 64.0]), ([80.0, 80.0], [80.0, 80.0])
    rows = {"full": row("full", *full), "no-cache": row("no-cache", *other)}
    text = render([Ablation(COOP, rows)], [1, 2])
    h = [harmonic_mean(pair) for pair in zip(*full, strict=True)]
    assert f"{h[0]:.2f}, {h[1]:.2f}" == "72.00, 75.15"
    # 80 - 72 = 8 and 80 - 75.1484 = 4.8516; t(1 df, 97.5 %) = 12.7062, standard error 1.5742
    assert "| 80.00 ± 0.00 | +6.43 (-13.58 to 26.43; 2 of 2 higher, p 0.5) |" in text
    # differences 10 and 11, then -20 and -16
    assert "- the cache: base +10.50 (4.15 to 16.85; 2 of 2 higher, p 0.5)" in text
    assert "new -18.00 (-43.41 to 7.41; 0 of 2 higher, p 0.5)" in text
    assert "| no cache " in text
    lacking = Row(ROWS["no-cache"], Cell({1: 80.0}, missing=(2,)), rows["no-cache"].new)
    text = render([Ablation(COOP, {**rows, "no-cache": lacking})], [1, 2])
    assert "- the cache: base n/a, new n/a, H n/a" in text
    assert "without averages: no-cache" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["critters", "--rows", "no-cash"], "unknown row 'no-cash': did you mean"),
        (["critters", "--rows", ","], "--rows: takes names separated by commas, got ','"),
        (["critters", "--method", "CoOpp"], "--method takes a trainer with a TextRefiner twin"),
        (["critters", "--method", "TextRefinerCoOp"], "--method takes a trainer with a TextRefin"),
        (["critters", "--workers", "0"], "--workers: takes a whole number from 1"),
        (["criters"], "unknown dataset 'criters'"),
        (["critters", "--set", "A.B"], "'A.B' has no value"),
        (
            ["critters", "--set", "TRAINER.TEXTREFINER.ALPHA", "0.3"],
            "some rows set TRAINER.TEXTREFINER.ALPHA themselves",
        ),
        (["dtd", "--seeds", "1"], "provide what is listed as missing first"),
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


def test_dry_run_lists_the_jobs_and_runs_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate.main(["critters", "--seeds", "1", "--dry-run"], {}) == 0
    shown = capsys.readouterr().out
    count = len(ROWS) - 1  # CoOp's own protocol has the same config on Critters
    assert f"{2 * count} jobs: {count} trainings of CoOp and their tests" in shown
    assert not (project / "output").exists()
