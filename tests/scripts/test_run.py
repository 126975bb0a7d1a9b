"""The command line: run.py's words and environment, and every shell entry down to train.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.utils import UsageError
from scripts import run as cli
from scripts.runner.job import Request, Workspace
from scripts.runner.plan import protocols_of
from scripts.runner.protocol_table import ProtocolTable
from tests.scripts.fake_project import ROOT, add_scripts, make_project

METHODS = ProtocolTable.load(ROOT / "configs" / "protocols.yaml").methods
ENTRIES = [path for name in METHODS for path in sorted((ROOT / "scripts" / name).iterdir())]


def test_words_and_environment_become_a_request() -> None:
    words = ["coop", "fewshot", "dtd", "2", "OPTIM.LR", "-0.1", "--dry-run"]
    env = {"SHOTS": "1 4", "CFG": "rn50", "SOURCE": "sun397"}
    line = cli.parse(words, env)
    assert line.dry_run
    assert line.request == Request(
        *("coop", "fewshot", "dtd", 2), {"OPTIM.LR": "-0.1"}, "rn50", (1, 4), "sun397"
    )


def test_the_environment_may_ask_for_a_dry_run_and_empty_names_count_as_not_given() -> None:
    env = {"TEXTREFINER_DRY_RUN": "1", "SHOTS": "", "CFG": "", "SOURCE": ""}
    line = cli.parse(["coop", "xd_test", "dtd", "1"], env)
    assert line.dry_run
    assert line.request == Request("coop", "xd_test", "dtd", 1)


@pytest.mark.parametrize("protocol", ["xd", "xd_train", "dg", "teacher_xd"])
def test_protocols_of_a_source_take_imagenet_where_no_data_set_is_named(protocol: str) -> None:
    assert cli.parse(["coop", protocol, "3"], {}).request.dataset == "imagenet"


@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        (["coop", "fewshot", "dtd"], {}, "SEED is missing"),
        (["coop"], {}, "PROTOCOL is missing"),
        (["coop", "fewshot", "dtd", "one"], {}, "SEED must be a whole number such as 1, got 'one'"),
        (["coop", "fewshot", "dtd", "1", "A.B"], {}, "'A.B' has no value"),
        (["coop", "fewshot", "dtd", "1", "--resume", "x"], {}, "got '--resume'"),
        (["coop", "fewshot", "dtd", "1"], {"SHOTS": "four"}, "SHOTS must be positive"),
        (["coop", "fewshot", "dtd", "1"], {"SHOTS": "0"}, "SHOTS must be positive"),
    ],
)
def test_wrong_words_are_told_in_a_sentence(
    words: list[str], env: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UsageError) as error:
        cli.parse(words, env)
    assert sentence in str(error.value)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", tmp_path)
    return tmp_path


def test_a_protocol_runs_job_after_job_and_skips_them_next_time(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["coop", "base2new", "critters", "1"]
    assert cli.main(words, {}) == 0
    first = capfd.readouterr().out
    assert first.splitlines()[:2] == [
        f"DATA={project}/data  # the default",
        f"OUTPUT={project}/output  # the default",
    ]
    assert first.count("  estimate: none") == 2
    assert [line.split()[0] for line in first.splitlines()[6:] if line[0].islower()] == [
        *("run", "the", "done"),
        *("run", "the", "done"),
    ]
    assert cli.main(words, {}) == 0
    assert capfd.readouterr().out.count("skip  coop base2new") == 2


def test_the_exit_code_is_that_of_train_py_and_later_jobs_do_not_run(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_EXIT", "7")
    assert cli.main(["coop", "base2new", "critters", "1"], {}) == 7
    assert "failed with exit code 7; its log: " in capfd.readouterr().err
    assert not (project / "output/base2new/test_new").exists()


def test_usage_errors_exit_with_2_and_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cop", "base2new", "critters", "1"], {}) == 2
    assert capsys.readouterr().err == (
        "error: unknown method 'cop': did you mean 'coop' or 'cocoop'? "
        f"allowed: {', '.join(METHODS)}\n"
    )


def test_a_broken_protocol_table_exits_with_2_and_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "configs/protocols.yaml").write_text("- coop")
    assert cli.main(["coop", "base2new", "critters", "1"], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "protocols.yaml: the file must contain KEY: value lines" in error


def test_a_missing_data_folder_is_named_unless_the_images_are_drawn(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"DATA": str(project / "nowhere")}
    assert cli.main(["coop", "base2new", "dtd", "1"], env) == 2
    assert f"no data folder {project}/nowhere: set DATA" in capsys.readouterr().err
    assert not (project / "output").exists()
    assert cli.main(["coop", "base2new", "critters", "1"], env) == 0


@pytest.mark.parametrize("name", ["DATA", "OUTPUT"])
def test_a_file_in_the_place_of_a_folder_is_one_sentence(
    project: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "file").touch()
    env = {name: str(project / "file")}
    assert cli.main(["coop", "base2new", "critters", "1"], env) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}={project}/file cannot be a folder: ")
    assert error.count("\n") == 1


def test_data_and_output_are_relative_to_the_working_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert cli.main(["coop", "base2new", "critters", "1"], {"DATA": "images", "OUTPUT": "out"}) == 0
    assert next((elsewhere / "out/base2new").rglob("run.json")).is_file()
    assert (elsewhere / "images").is_dir()


def test_a_dry_run_prints_commands_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["coop", "base2new", "dtd", "1", "--dry-run"], {"DATA": "nowhere"}) == 0
    assert capsys.readouterr().out.count(" train.py --root ") == 2
    assert not (project / "output").exists()


def test_help_shows_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["coop", "base2new", "--help"], {}) == 0
    assert "python scripts/run.py coop base2new dtd 1" in capsys.readouterr().out


# Shell entries


@pytest.mark.parametrize(
    "path", [*ENTRIES, ROOT / "scripts" / "run.sh"], ids=lambda path: path.stem
)
def test_bash_can_read_it(path: Path) -> None:
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_entry_hands_its_words_to_the_runner(path: Path, tmp_path: Path) -> None:
    """From any working folder, with words that hold spaces, with the Python that PYTHON names."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    python.chmod(0o755)
    command = ["bash", path, "dtd", "1", "TRAINER.COOP.CTX_INIT", "a photo of a"]
    env = {**os.environ, "PYTHON": str(python)}
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    script, *words = ran.stdout.split("|")[:-1]
    assert Path(script).resolve() == ROOT / "scripts" / "run.py"
    assert words == [path.parent.name, path.stem, *command[2:]]


def test_every_method_has_an_entry_for_every_protocol() -> None:
    place = Workspace(ROOT, ROOT / "data", ROOT / "output")
    assert sorted(path.relative_to(ROOT / "scripts") for path in ENTRIES) == sorted(
        Path(method, f"{name}.sh") for method in METHODS for name in protocols_of(method, place)
    )


@pytest.mark.parametrize("path", ENTRIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_entry_shows_its_own_command_line_and_one_for_a_cpu(path: Path) -> None:
    shown = path.read_text()
    me = f"scripts/{path.parent.name}/{path.name}"
    assert f"{me} critters 1" in shown
    assert shown.count(me) >= 2


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHON": "no-such-python"}
    ran = subprocess.run([ROOT / "scripts/run.sh"], env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (2, "error: PYTHON=no-such-python is not a program\n")


def test_a_python_without_torch_says_how_to_get_one(tmp_path: Path) -> None:
    python = tmp_path / "python"  # -I -S: without the packages that are installed beside it
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    python.chmod(0o755)
    env = {**os.environ, "PYTHON": str(python)}
    ran = subprocess.run([ROOT / "scripts/run.sh"], env=env, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: {python} has no torch: run `make demo` once to make .venv, "
        "or set PYTHON to a Python that has requirements.txt\n",
    )


def test_an_entry_runs_train_py(tmp_path: Path) -> None:
    """The whole way: shell entry, runner, child process, marker; from another working folder."""
    make_project(tmp_path / "project")
    add_scripts(tmp_path / "project")
    entry = tmp_path / "project/scripts/coop/base2new.sh"
    env = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["bash", entry, "critters", "1"], cwd=tmp_path, env=env, check=True)
    markers = (tmp_path / "project/output/base2new").rglob("run.json")
    assert sorted(path.parts[-7] for path in markers) == ["test_new", "train_base"]
