"""The demo with a fake train.py that only writes files: jobs, table and failures."""

import json
from pathlib import Path

import pytest

from scripts import demo
from scripts.runner.demo import Demo, Method
from scripts.runner.job import ROOT, Workspace
from scripts.runner.protocol_table import ProtocolTable
from tests.scripts.fake_project import make_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", place.root)
    monkeypatch.setattr("datasets.critters_world.folder.prepare_folder", lambda plan, folder: None)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a demo of zero-shot CLIP only."""
    monkeypatch.setattr(demo, "SHORT", Demo("demo", [[demo.ZERO_SHOT]]))


def test_table_of_four_methods_over_three_seeds(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([], {}) == 0
    out = project / "output" / "demo"
    (table,) = json.loads((out / "results.json").read_text())["tables"]
    assert [row["method"] for row in table["rows"]] == [
        "zero-shot CLIP",
        "CoOp",
        "CoOp + TextRefiner",
        "aggregation only (no cache, no local loss)",
    ]
    assert table["columns"] == ["base", "new", "H"]
    assert table["notes"] == []
    for row in table["rows"][1:]:
        assert row["cells"]["base"]["seeds"] == {"1": 61.0, "2": 62.0, "3": 63.0}
        assert row["cells"]["new"]["mean"] == pytest.approx(42.0)
    assert (out / "results.png").read_bytes().startswith(b"\x89PNG")

    shown = capsys.readouterr().out
    assert (out / "results.md").read_text() in shown
    assert shown.count("seed 2: ") == 6
    assert "[20/20] " in shown
    assert f"runs   {out}: " in shown


def test_aggregation_only_has_its_options_and_a_separate_folder(project: Path) -> None:
    place = Workspace(project, project / "data", project / "output")
    jobs = demo.AGGREGATION.jobs(place, 1)
    assert len(jobs) == 2
    for job in jobs:
        assert job.folder.is_relative_to(project / "output/aggregation_only/base2new")
        assert job.options["TRAINER.TEXTREFINER.CACHE"] == "False"
        assert job.options["TRAINER.TEXTREFINER.LOCAL"] == "False"


def test_second_run_skips_finished_jobs(
    project: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([], {}) == 0
    logs = {path: path.read_text() for path in project.rglob("log.txt")}
    capsys.readouterr()
    assert demo.main([], {}) == 0
    assert capsys.readouterr().out.count(": skipped, ") == 2
    assert {path: path.read_text() for path in project.rglob("log.txt")} == logs


def test_failed_job_is_reported_with_the_end_of_its_log(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "9")
    assert demo.main([], {}) == 9
    error = capsys.readouterr().err
    assert "seed 1 failed with exit code 9" in error
    assert "the last lines of " in error
    assert "  output of the fake" in error
    assert not (project / "output/demo/results.md").exists()


def test_data_and_output_come_from_the_environment(project: Path, quick: None) -> None:
    env = {"OUTPUT": str(project / "elsewhere"), "DATA": str(project / "images")}
    assert demo.main([], env) == 0
    assert (project / "elsewhere/demo/results.md").is_file()
    log = next((project / "elsewhere/demo").rglob("log.txt")).read_text()
    assert "--root images --seed 1" in log  # relative to the repository root


@pytest.mark.parametrize("name", ["DATA", "OUTPUT"])
def test_unusable_folder_is_reported_in_one_sentence(
    project: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "file").touch()
    assert demo.main([], {name: str(project / "file")}) == 2
    assert capsys.readouterr().err.startswith(f"error: {name}={project}/file")


@pytest.mark.parametrize("word", ["--foo", "extra"])
def test_unknown_argument_runs_nothing(project: Path, word: str) -> None:
    assert demo.main([word], {}) == 2
    assert not (project / "output").exists()


def test_help_runs_nothing(project: Path) -> None:
    with pytest.raises(SystemExit) as end:
        demo.main(["--help"], {})
    assert end.value.code == 0
    assert not (project / "output").exists()


def test_teacher_is_trained_before_its_students_and_has_no_table_row(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = Method("the teachers", "coop", "base2new_train", in_table=False, subfolder="teacher")
    students = [Method("student", "textrefiner"), Method("other student", "coop")]
    small = Demo("demo-all", [[demo.ZERO_SHOT], [teacher, *students]], remark="What it means.\n")
    monkeypatch.setattr(demo, "ALL", small)
    place = Workspace(project, project / "data", project / "output")
    chains = [[method.label for method, _ in chain] for chain in small.chains(place)]
    group = ["the teachers", "student", "student", "other student", "other student"]
    assert chains == [group, ["zero-shot CLIP"] * 2, group, group]  # seed by seed, long ones first

    assert demo.main(["--all"], {}) == 0
    shown = capsys.readouterr().out
    text = (project / "output/demo-all/results.md").read_text()
    assert text in shown
    assert text.endswith(
        "\nWhat it means.\n\nthe teachers: 62.00 ± 1.00 on base classes, backbone toy\n"
    )
    (table,) = json.loads((project / "output/demo-all/results.json").read_text())["tables"]
    names = [row["method"] for row in table["rows"]]
    assert names == ["zero-shot CLIP", "student", "other student"]
    assert "; about " in shown


def test_long_demo_runs_every_method_with_and_without_textrefiner() -> None:
    shown = {method.method for group in demo.ALL.groups for method in group if method.in_table}
    assert shown == set(ProtocolTable.load(ROOT / "configs/protocols.yaml").methods)


def test_every_row_of_the_long_demo_has_a_job_for_each_of_its_columns() -> None:
    place = Workspace(ROOT, ROOT / "data", ROOT / "output")
    for method in (method for group in demo.ALL.groups for method in group if method.in_table):
        trainer = place.table.setting(method.method, method.protocol, "critters").trainer
        for seed in method.seeds:
            jobs = [job for job in method.jobs(place, seed) if job.trainer == trainer]
            assert tuple(job.classes for job in jobs) == method.classes, method.label


def test_students_by_their_own_protocol_have_the_teacher_of_the_other_rows() -> None:
    place = Workspace(ROOT, ROOT / "data", ROOT / "output")
    chains = [chain for chain in demo.ALL.chains(place) if any(job.teacher for _, job in chain)]
    teachers = {str(job.teacher.weights) for chain in chains for _, job in chain if job.teacher}
    trained = {job.folder for chain in chains for _, job in chain if job.trainer == "PromptSRC"}
    (folder,), (weights,) = trained, teachers
    assert weights.startswith(f"{folder}/")
    for chain in chains:
        for method, job in chain:
            if method.apart:
                assert job.options["TRAINER.MODAL"] == "base2novel"
                assert job.options["TEST.SPLIT"] == {"base": "val", "new": "test"}[job.classes]
                assert "DATASET.DISTILL_ON" not in job.options  # all, the default


def test_long_demo_begins_with_the_rows_of_the_short_one() -> None:
    short = [method for group in demo.SHORT.groups for method in group]
    assert short == [method for group in demo.ALL.groups for method in group][: len(short)]


def test_rows_apart_have_a_table_with_its_title(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Method("own", "textrefiner", subfolder="own", apart="own images")
    monkeypatch.setattr(demo, "ALL", Demo("demo-all", [[demo.COOP], [row]]))
    assert demo.main(["--all"], {}) == 0
    text = (project / "output/demo-all/results.json").read_text()
    first, second = json.loads(text)["tables"]
    assert [row["method"] for row in first["rows"]] == ["CoOp"]
    assert [row["method"] for row in second["rows"]] == ["own"]
    assert second["title"] == f"{first['title']}, own images"


def test_long_demo_never_trains_on_images_of_new_classes() -> None:
    """Except in the tables of all classes and of PromptKD's own protocol."""
    place = Workspace(demo.ROOT, demo.ROOT / "data", demo.ROOT / "output")
    for chain in demo.ALL.chains(place):
        for method, job in chain:
            if job.eval_only or method.apart:
                continue
            if method.classes == ("all",):  # of the table of all classes
                continue
            assert job.options["DATASET.SUBSAMPLE_CLASSES"] == "base", method.label
            assert job.options["DATASET.NUM_SHOTS"] == "16"
            distills = job.teacher is not None
            assert (job.options.get("DATASET.DISTILL_ON") == "few_shot") == distills
