"""Reproduce the paper with a fake train.py that only writes files."""

import json
from pathlib import Path

import pytest

from clip import openai
from scripts import reproduce
from scripts.runner.job import Job, Teacher
from tests.scripts.fake_project import make_project

ONE = ["--methods", "coop", "textrefiner", "--datasets", "critters", "--seeds", "1"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", tmp_path)
    monkeypatch.setattr(openai, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path


def test_part_is_run_and_tabulated_and_skipped_next_time(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*ONE, "--protocols", "base2new"]
    assert reproduce.main(words, {}) == 0
    shown = capsys.readouterr().out
    assert "4 jobs, 0 of them finished" in shown
    assert "coop base2new: 2 jobs, 0 finished (critters 2)" in shown
    assert "missing: nothing" in shown
    assert "[4/4] " in shown
    assert "; about 0:00:0" in shown
    folder = project / "output" / "reproduce"
    (table,) = json.loads((folder / "results.json").read_text())["tables"]
    assert [row["method"] for row in table["rows"]] == ["CoOp", "TextRefinerCoOp"]
    assert table["rows"][0]["cells"]["base"]["mean"] == 61.0

    logs = {path: path.read_text() for path in (project / "output").rglob("log.txt")}
    assert len(logs) == 4
    assert reproduce.main([*words, "--workers", "2"], {}) == 0
    assert "4 jobs, 4 of them finished" in capsys.readouterr().out
    assert {path: path.read_text() for path in (project / "output").rglob("log.txt")} == logs


def test_zero_shot_model_is_tested_once_for_all_methods_and_seeds(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "coop", "textrefiner", "--datasets", "critters", "--dry-run"]
    assert reproduce.main([*words, "--protocols", "zeroshot"], {}) == 0
    assert "3 jobs, 0 of them finished" in capsys.readouterr().out


def test_dry_run_lists_missing_files_and_runs_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "coop", "--datasets", "critters", "dtd", "--protocols", "base2new"]
    assert reproduce.main([*words, "--dry-run"], {}) == 0
    shown = capsys.readouterr().out
    assert "coop base2new: 12 jobs, 0 finished (critters 6, dtd 6)" in shown
    assert "data: DescribableTextures lacks " in shown
    assert "; for 6 jobs" in shown
    assert not (project / "output").exists()


def test_missing_files_stop_the_run_before_the_first_job(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--methods", "coop", "--datasets", "critters", "dtd", "--protocols", "base2new"]
    assert reproduce.main(words, {}) == 2
    error = capsys.readouterr().err
    assert "provide what is listed as missing first" in error
    assert error.count("\n") == 1
    assert not (project / "output").exists()

    assert reproduce.main([*words, "--allow-missing", "--seeds", "1"], {}) == 0
    shown = capsys.readouterr().out
    assert "left out because of the above: 1 x coop base2new" in shown
    assert "2 jobs done, 0 failed, 0 not run" in shown


def test_failed_training_skips_only_its_test(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "9")
    assert reproduce.main([*ONE, "--protocols", "base2new"], {}) == 1
    shown = capsys.readouterr().out
    assert shown.count("failed with exit code 9") == 2
    assert "0 jobs done, 2 failed, 2 not run" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--methods", "coup", "--datasets", "critters"], "unknown method 'coup'"),
        (["--datasets", "dtdd"], "unknown dataset 'dtdd'"),
        (["--protocols", "base2novel"], "unknown protocol 'base2novel'"),
        (["--workers", "0"], "--workers: takes a whole number from 1"),
        (["--datasets", "dtd", "--protocols", "xd"], "no job: none of the methods has xd on dtd"),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(
    project: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce.main(words, {}) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert not (project / "output").exists()


def test_teacher_training_and_tests_form_one_chain() -> None:
    def job(name: str, model: str = "", teacher: str = "") -> Job:
        return Job(
            *(name, "CoOp", "critters", 1, "c", Path(name), {}, model != ""),
            model_folder=Path(model) if model else None,
            teacher=Teacher(Path(teacher) / "model.pth.tar-20", "toy") if teacher else None,
        )

    training, teacher = job("train"), job("teacher")
    students = [job(f"student{n}", teacher="teacher") for n in (1, 2)]
    parts = [
        reproduce.Part("coop xd", "critters", [training, job("far", "train")]),
        reproduce.Part("coop dg", "critters", [training, job("sketch", "train")]),
        reproduce.Part(
            "promptkd base2new", "critters", [teacher, students[0], job("n", "student1")]
        ),
        reproduce.Part("kd base2new", "critters", [teacher, students[1]]),
    ]
    chains = [[each.name for each in chain] for chain in reproduce.make_chains(parts)]
    assert chains == [
        ["train", "far", "sketch"],
        ["teacher"],
        ["teacher", "student1", "n"],
        ["teacher", "student2"],
    ]
