"""The command line of run.py: arguments and environment variables."""

import re
from pathlib import Path

import pytest

from dassl.utils import UsageError
from scripts import run as cli
from scripts.runner.job import Request
from scripts.runner.protocol_table import ProtocolTable
from tests.scripts.fake_project import ROOT, make_project

METHODS = ProtocolTable.load(ROOT / "configs" / "protocols.yaml").methods


def test_arguments_and_environment_are_parsed() -> None:
    words = ["coop", "fewshot", "dtd", "2", "OPTIM.LR", "-0.1", "--dry-run"]
    env = {"SHOTS": "1 4", "CFG": "rn50", "SOURCE": "sun397"}
    line = cli.parse(words, env)
    assert line.dry_run
    assert line.request == Request(
        *("coop", "fewshot", "dtd", 2), {"OPTIM.LR": "-0.1"}, "rn50", (1, 4), "sun397"
    )


def test_environment_sets_dry_run_and_empty_variables_are_ignored() -> None:
    env = {"TEXTREFINER_DRY_RUN": "1", "SHOTS": "", "CFG": "", "SOURCE": ""}
    line = cli.parse(["coop", "xd_test", "dtd", "1"], env)
    assert line.dry_run
    assert line.request == Request("coop", "xd_test", "dtd", 1)


@pytest.mark.parametrize("protocol", ["xd", "xd_train", "dg", "teacher_xd"])
def test_source_protocols_default_to_imagenet(protocol: str) -> None:
    assert cli.parse(["coop", protocol, "3"], {}).request.dataset == "imagenet"


@pytest.mark.parametrize(
    ("words", "env", "sentence"),
    [
        (["coop", "fewshot", "dtd"], {}, "SEED is missing"),
        (["coop"], {}, "PROTOCOL is missing"),
        (
            ["coop", "fewshot", "dtd", "one"],
            {},
            "SEED must be a whole number such as 1, at most",
        ),
        (["coop", "fewshot", "dtd", "1", "A.B"], {}, "'A.B' has no value"),
        (["coop", "fewshot", "dtd", "1", "--resume", "x"], {}, "got '--resume'"),
        (["coop", "fewshot", "dtd", "1"], {"SHOTS": "four"}, "SHOTS must be positive"),
        (["coop", "fewshot", "dtd", "1"], {"SHOTS": "0"}, "SHOTS must be positive"),
    ],
)
def test_invalid_arguments_are_reported_in_one_sentence(
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


def test_protocol_runs_its_jobs_and_skips_them_next_time(
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
        *("run", "output", "done"),
        *("run", "output", "done"),
    ]
    assert cli.main(words, {}) == 0
    assert capfd.readouterr().out.count("skip  coop base2new") == 2


def test_exit_code_is_that_of_train_py_and_later_jobs_do_not_run(
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
        "error: unknown method 'cop': did you mean 'coop' or 'tcp' or 'kgcoop'? "
        f"allowed: {', '.join(METHODS)}\n"
    )


def test_invalid_protocol_table_exits_with_2_and_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "configs/protocols.yaml").write_text("- coop")
    assert cli.main(["coop", "base2new", "critters", "1"], {}) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "protocols.yaml: the file must contain KEY: value lines" in error


def test_missing_data_folder_is_named_unless_images_are_rendered(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = {"DATA": str(project / "nowhere")}
    assert cli.main(["coop", "base2new", "dtd", "1"], env) == 2
    assert f"no data folder {project}/nowhere: set DATA" in capsys.readouterr().err
    assert not (project / "output").exists()
    assert cli.main(["coop", "base2new", "critters", "1"], env) == 0


@pytest.mark.parametrize("name", ["DATA", "OUTPUT"])
def test_file_in_place_of_a_folder_is_reported_in_one_sentence(
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


def test_a_dry_run_prints_estimates_and_commands_and_writes_nothing(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["coop", "base2new", "dtd", "1", "MODEL.BACKBONE.NAME", "ViT-B/16", "--dry-run"]
    assert cli.main(words, {"DATA": "nowhere"}) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith(("DATA=", "OUTPUT="))]
    assert [line[:2] == "# " for line in lines] == [True] * 5 + [False] * 2
    for job in (lines[0:2], lines[2:4]):
        assert re.fullmatch(r"# coop base2new\S*, dtd, .*", job[0])
        assert re.fullmatch(r"#   estimate: about .*\d (s|min|h), \d+\.\d GiB .*", job[1])
    assert lines[4].startswith("# cost model: ")
    assert all(" train.py --root " in line for line in lines[5:])
    assert not (project / "output").exists()


def test_help_shows_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["coop", "base2new", "--help"], {}) == 0
    assert "python scripts/run.py coop base2new dtd 1" in capsys.readouterr().out
