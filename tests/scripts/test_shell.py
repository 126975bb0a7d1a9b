"""Shell scripts: every file, CoOp's entry points, and complete runs with a fake train.py."""

import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from scripts import run as cli
from scripts.runner.job import Workspace
from scripts.runner.plan import protocols_of
from scripts.runner.protocol_table import ProtocolTable
from tests.scripts.fake_project import ROOT, add_scripts, make_project

SCRIPTS = ROOT / "scripts"
COOP = {"coop/main.sh", "coop/eval.sh"}  # takes CoOp's arguments; not a protocol


def entries() -> list[str]:
    """Return all <method>/<protocol>.sh, relative to scripts/."""
    return sorted({str(p.relative_to(SCRIPTS)) for p in SCRIPTS.glob("*/*.sh")} - COOP)


def run_bash(*command: object, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with this Python, without the caller's DATA, OUTPUT, CFG, ..."""
    clean = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, **env}
    words = ["bash", *map(str, command)]
    return subprocess.run(words, env=clean, capture_output=True, text=True, check=check)


def write_program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_every_file_is_executable_and_valid_bash() -> None:
    for path in SCRIPTS.rglob("*.sh"):
        assert os.access(path, os.X_OK), f"{path} is not executable: chmod +x"
        assert run_bash("-n", path, check=False).stderr == ""


def test_every_method_has_the_files_of_its_protocols() -> None:
    methods = ProtocolTable.load(ROOT / "configs" / "protocols.yaml").methods
    workspace = Workspace(ROOT, ROOT / "data", ROOT / "output")
    expected = {f"{m}/{p}.sh" for m in methods for p in protocols_of(m, workspace)}
    missing, unknown = sorted(expected - {*entries()}), sorted({*entries()} - expected)
    assert not missing, f"copy scripts/textrefiner/base2new.sh to {missing} in scripts/"
    assert not unknown, f"configs/protocols.yaml has no such protocols: {unknown} in scripts/"


def test_every_file_passes_its_method_protocol_and_arguments_to_run_py(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    python = write_program(tmp_path / "python", 'printf "%s|" "$@"')
    arguments = ["critters", "1", "TRAINER.COOP.CTX_INIT", "a photo of a"]
    for entry in entries():
        printed = run_bash(SCRIPTS / entry, *arguments, PYTHON=python).stdout
        script, *words = printed.split("|")[:-1]
        assert Path(script).resolve() == SCRIPTS / "run.py"
        assert words == [*entry.removesuffix(".sh").split("/"), *arguments]
        assert cli.main([*words[:4], "--dry-run"], {}) == 0, f"{entry} cannot be planned"
        assert " train.py --root " in capsys.readouterr().out


def test_a_dry_run_prints_the_commands_of_run_py(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["textrefiner", "base2new", "critters", "1", "--dry-run"], {}) == 0
    expected = capfd.readouterr().out
    entry = SCRIPTS / "textrefiner/base2new.sh"
    assert run_bash(entry, "critters", "1", TEXTREFINER_DRY_RUN="1").stdout == expected


def test_help_and_missing_arguments_print_the_usage() -> None:
    for arguments, code in (([], 2), (["--help"], 0)):
        ran = run_bash(SCRIPTS / "coop/zeroshot.sh", *arguments, check=False)
        assert ran.returncode == code
        assert "python scripts/run.py coop base2new dtd 1" in ran.stdout


def test_a_missing_python_is_named() -> None:
    ran = run_bash(SCRIPTS / "coop/xd.sh", "1", check=False, PYTHON="no-such-python")
    assert (ran.returncode, ran.stderr) == (2, "error: PYTHON=no-such-python is not a program\n")


def test_a_python_without_torch_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    # -I -S: without site-packages
    python = write_program(tmp_path / "python", f'exec "{sys.executable}" -I -S "$@"')
    ran = run_bash(SCRIPTS / "coop/xd.sh", "1", check=False, PYTHON=python)
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: {python} has no torch: run `make demo` once to make .venv, "
        "or set PYTHON to a Python that has requirements.txt\n",
    )


# Entry points of CoOp and CoCoOp


def dry_run(entry: str, *arguments: str) -> list[list[str]]:
    """Return the words after train.py of each command that a dry run prints."""
    env = {"TEXTREFINER_DRY_RUN": "1", "DATA": "/images", "OUTPUT": "/results"}
    printed = run_bash(SCRIPTS / entry, *arguments, **env).stdout
    commands = [shlex.split(line) for line in printed.splitlines()]
    return [words[words.index("train.py") + 1 :] for words in commands if "train.py" in words]


def check_command(words: list[str], flags: dict[str, str], *options: str) -> None:
    """Compare flags, configs (by their end) and KEY VALUE pairs with those of the original."""
    for flag, value in {"--root": "/images", **flags}.items():
        assert words[words.index(flag) + 1].endswith(value), (flag, value, words)
    pairs = set(pairwise(words))
    assert pairs >= set(zip(options[::2], options[1::2], strict=True))
    assert ("--eval-only" in words) == ("--model-dir" in flags)


def test_main_sh_trains_three_seeds_into_coops_folders() -> None:
    commands = dry_run("coop/main.sh", "caltech101", "rn50_ep50", "middle", "4", "2", "True")
    assert len(commands) == 3
    for seed, words in enumerate(commands, 1):
        flags = {
            "--seed": str(seed),
            "--trainer": "CoOp",
            "--dataset-config-file": "configs/datasets/caltech101.yaml",
            "--config-file": "configs/trainers/CoOp/rn50_ep50.yaml",
            "--output-dir": "/results/caltech101/CoOp/rn50_ep50_2shots/"
            f"nctx4_cscTrue_ctpmiddle/seed{seed}",
        }
        options = ["TRAINER.COOP.N_CTX", "4", "TRAINER.COOP.CSC", "True"]
        options += ["TRAINER.COOP.CLASS_TOKEN_POSITION", "middle", "DATASET.NUM_SHOTS", "2"]
        check_command(words, flags, *options)


def test_eval_sh_evaluates_the_imagenet_models_of_three_seeds() -> None:
    commands = dry_run("coop/eval.sh", "imagenetv2", "rn50_ep50")
    trained = dry_run("coop/main.sh", "imagenet", "rn50_ep50", "end", "16", "16", "False")
    assert len(commands) == len(trained) == 3
    model = "CoOp/rn50_ep50_16shots/nctx16_cscFalse_ctpend"
    for seed, (words, training) in enumerate(zip(commands, trained, strict=True), 1):
        flags = {
            "--seed": str(seed),
            "--trainer": "CoOp",
            "--dataset-config-file": "configs/datasets/imagenetv2.yaml",
            "--config-file": "configs/trainers/CoOp/rn50_ep50.yaml",
            "--output-dir": f"/results/evaluation/{model}/imagenetv2/seed{seed}",
            "--model-dir": f"/results/imagenet/{model}/seed{seed}",
            "--load-epoch": "50",
        }
        assert training[training.index("--output-dir") + 1] == flags["--model-dir"]
        options = ["TRAINER.COOP.N_CTX", "16", "TRAINER.COOP.CSC", "False"]
        check_command(words, flags, *options, "TRAINER.COOP.CLASS_TOKEN_POSITION", "end")


def test_zeroshot_sh_takes_coops_arguments_or_a_seed() -> None:
    root = ["--root", "/images", "--trainer"]
    files = ["--dataset-config-file", f"{ROOT}/configs/datasets/dtd.yaml", "--config-file"]
    files += [f"{ROOT}/configs/trainers/CoOp/rn50.yaml", "--output-dir"]
    for trainer in ("ZeroshotCLIP", "ZeroshotCLIP2"):
        output = f"/results/{trainer}/rn50/dtd"
        expected = [*root, trainer, *files, output, "--eval-only"]
        assert dry_run("coop/zeroshot.sh", "dtd", trainer, "rn50") == [expected]
    assert dry_run("coop/zeroshot.sh", "dtd", "rn50")[0][3] == "ZeroshotCLIP"
    folders = [
        words[words.index("--output-dir") + 1] for words in dry_run("coop/zeroshot.sh", "dtd", "1")
    ]
    assert folders == [
        f"/results/ZeroshotCLIP/vit_b16/dtd/{c}/seed1" for c in ("all", "base", "new")
    ]


CFG = "vit_b16_c4_ep10_batch1_ctxv1"
BASE2NEW = f"dtd/shots_16/CoCoOp/{CFG}/seed2"


@pytest.mark.parametrize(
    ("arguments", "dataset", "folder", "model", "classes"),
    [
        ("base2new_train.sh dtd 2", "dtd", f"base2new/train_base/{BASE2NEW}", None, "base"),
        (
            "base2new_test.sh dtd 2",
            "dtd",
            f"base2new/test_new/{BASE2NEW}",
            f"base2new/train_base/{BASE2NEW}",
            "new",
        ),
        ("xd_train.sh 2", "imagenet", f"imagenet/CoCoOp/{CFG}_16shots/seed2", None, None),
        ("xd_train.sh dtd 2", "dtd", f"dtd/CoCoOp/{CFG}_16shots/seed2", None, None),
        (
            "xd_test.sh dtd 2",
            "dtd",
            f"evaluation/CoCoOp/{CFG}_16shots/dtd/seed2",
            f"imagenet/CoCoOp/{CFG}_16shots/seed2",
            None,
        ),
    ],
)
def test_cocoops_scripts_use_its_configs_and_folders(
    arguments: str, dataset: str, folder: str, model: str | None, classes: str | None
) -> None:
    entry, *rest = arguments.split()
    (words,) = dry_run(f"cocoop/{entry}", *rest)
    flags = {
        "--seed": "2",
        "--trainer": "CoCoOp",
        "--dataset-config-file": f"configs/datasets/{dataset}.yaml",
        "--config-file": f"configs/trainers/CoCoOp/{CFG}.yaml",
        "--output-dir": f"/results/{folder}",
    }
    if model is not None:
        flags |= {"--model-dir": f"/results/{model}", "--load-epoch": "10"}
    options = ["DATASET.NUM_SHOTS", "16"]
    options += [] if classes is None else ["DATASET.SUBSAMPLE_CLASSES", classes]
    check_command(words, flags, *options)
    assert ("DATASET.SUBSAMPLE_CLASSES" in words) == (classes is not None)


@pytest.mark.parametrize(
    ("entry", "arguments", "usage"),
    [
        ("main.sh", "dtd rn50 end", "main.sh DATASET CFG CTP NCTX SHOTS CSC"),
        ("eval.sh", "dtd", "eval.sh DATASET CFG"),
        ("zeroshot.sh", "dtd A B C", "zeroshot.sh DATASET SEED or DATASET [TRAINER] CFG"),
    ],
)
def test_wrong_number_of_arguments_exits_with_2_and_the_usage(
    entry: str, arguments: str, usage: str
) -> None:
    words = arguments.split()
    ran = run_bash(SCRIPTS / "coop" / entry, *words, check=False)
    error = f"error: got {len(words)} arguments; usage: {usage}\n"
    assert (ran.returncode, ran.stderr) == (2, error)


# Complete runs with the fake train.py


def test_entries_run_train_py(tmp_path: Path) -> None:
    make_project(tmp_path)
    add_scripts(tmp_path)
    scripts, output = tmp_path / "scripts", tmp_path / "output"
    run_bash(scripts / "coop/base2new.sh", "critters", "1")
    assert sorted(path.parts[-7] for path in (output / "base2new").rglob("log.txt")) == [
        *("test_new", "train_base")
    ]
    for _ in range(2):  # finished seeds are skipped
        run_bash(scripts / "coop/main.sh", "critters", "vit_b16", "end", "16", "1", "False")
    run_bash(scripts / "coop/eval.sh", "critters", "vit_b16")
    folders = [
        output / "critters/CoOp/vit_b16_1shots/nctx16_cscFalse_ctpend",
        output / "evaluation/CoOp/vit_b16_16shots/nctx16_cscFalse_ctpend/critters",
    ]
    for folder in folders:
        for seed in (1, 2, 3):
            assert (folder / f"seed{seed}/log.txt").read_text().count("fresh --root") == 1


def test_main_sh_stops_at_the_first_failed_seed(tmp_path: Path) -> None:
    make_project(tmp_path)
    add_scripts(tmp_path)
    entry = tmp_path / "scripts/coop/main.sh"
    arguments = ["critters", "vit_b16", "end", "16", "1", "False"]
    ran = run_bash(entry, *arguments, check=False, FAKE_EXIT="7")
    assert ran.returncode == 7
    assert [path.parent.name for path in (tmp_path / "output").rglob("log.txt")] == ["seed1"]
