"""Marking, skipping, failing, resuming, locking of jobs; train.py only writes files here."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dassl.utils import UsageError
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.lock import JobLock, LockHeldError, job_lock
from scripts.runner.plan import plan
from scripts.runner.run_job import LOCK, JobFailedError, run
from tests.scripts.fake_project import make_project


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_project(tmp_path)


def base2new(place: Workspace, **options: str) -> tuple[Job, Job]:
    pairs = {key.replace("__", "."): value for key, value in options.items()}
    training, test = plan(Request("coop", "base2new", "critters", 1, options=pairs), place)
    return training, test


def lines_of(job: Job) -> list[str]:
    return (job.folder / "log.txt").read_text().splitlines()


def test_a_finished_job_is_marked_and_skipped(place: Workspace) -> None:
    training, _ = base2new(place)
    said: list[str] = []
    assert not run(training, place, say=said.append).skipped
    before = lines_of(training)
    assert run(training, place, say=said.append).skipped
    assert lines_of(training) == before
    assert said[-1].startswith(f"skip  {training.name}: finished ")

    finished = json.loads((training.folder / "finished.json").read_text())
    assert finished["command"].split()[1] == "train.py"
    assert finished["settings"]["OPTIM.MAX_EPOCH"] == 3
    assert finished["settings"]["--seed"] == 1
    assert finished["versions"]["torch"]
    assert finished["seconds"] >= 0
    assert {"commit", "started", "finished", "model", "job"} <= set(finished)
    assert not (training.folder / LOCK).exists()


def test_what_the_child_prints_passes_through(
    place: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    run(base2new(place)[0], place)
    assert "the fake speaks" in capfd.readouterr().out


def test_what_the_child_prints_goes_to_a_file_if_asked(place: Workspace, tmp_path: Path) -> None:
    with open(tmp_path / "job.log", "w") as stream:
        run(base2new(place)[0], place, stream=stream)
    assert (tmp_path / "job.log").read_text() == "the fake speaks\n"


def test_a_failed_job_passes_its_code_on_and_runs_again(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    monkeypatch.setenv("FAKE_EXIT", "5")
    with pytest.raises(JobFailedError, match=r"exit code 5; its log: .*log\.txt") as failure:
        run(training, place)
    assert failure.value.code == 5
    assert not (training.folder / "finished.json").exists()
    assert not (training.folder / LOCK).exists()
    monkeypatch.delenv("FAKE_EXIT")
    assert not run(training, place).skipped
    assert (training.folder / "finished.json").exists()


def test_an_unfinished_job_runs_again_in_its_folder(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run(training, place)
    monkeypatch.delenv("FAKE_STOP")
    run(training, place)
    assert [line.split()[0] for line in lines_of(training)][:2] == ["fresh", "resumed"]


def test_a_signal_reads_as_a_shell_gives_it(place: Workspace) -> None:
    (place.root / "train.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.raises(JobFailedError) as failure:
        run(base2new(place)[0], place)
    assert failure.value.code == 137


def test_other_pairs_in_a_finished_folder_are_refused(place: Workspace) -> None:
    run(base2new(place)[0], place)
    other, _ = base2new(place, OPTIM__LR="0.1")
    with pytest.raises(UsageError, match=r"OPTIM\.LR was not set, now is 0\.1.*another OUTPUT"):
        run(other, place)


def test_another_config_content_is_refused_but_another_comment_is_not(place: Workspace) -> None:
    training, _ = base2new(place)
    run(training, place)
    config = place.trainer_config(training.config)
    config.write_text("# a comment\n" + config.read_text())
    assert run(training, place).skipped
    config.write_text(config.read_text().replace("3", "4"))
    with pytest.raises(UsageError, match=r"OPTIM\.MAX_EPOCH was 3, now is 4"):
        run(training, place)


def test_a_pair_that_repeats_the_config_is_no_difference(place: Workspace) -> None:
    run(base2new(place)[0], place)
    again, _ = base2new(place, OPTIM__MAX_EPOCH="3")
    assert run(again, place).skipped


def test_pairs_that_change_speed_or_output_only_are_no_difference(place: Workspace) -> None:
    run(base2new(place)[0], place)
    again, _ = base2new(place, DATALOADER__NUM_WORKERS="0", TRAIN__PRINT_FREQ="1")
    assert run(again, place).skipped


def test_checkpoints_of_another_command_are_not_resumed(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run(base2new(place)[0], place)
    other, _ = base2new(place, OPTIM__LR="0.1")
    with pytest.raises(UsageError, match=r"holds the checkpoints of another command \(OPTIM\.LR"):
        run(other, place)


def test_a_command_that_failed_before_its_first_checkpoint_may_be_corrected(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    typo, _ = base2new(place, OPTIM__LR="O.1")
    (place.root / "train.py").rename(place.root / "real.py")
    (place.root / "train.py").write_text("raise SystemExit(2)")
    with pytest.raises(JobFailedError, match=r"it wrote no log\.txt: the reason is above"):
        run(typo, place)
    (place.root / "real.py").rename(place.root / "train.py")
    assert not run(base2new(place, OPTIM__LR="0.1")[0], place).skipped


def test_a_test_needs_its_model(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    training, test = base2new(place)
    with pytest.raises(UsageError, match=r"reads model\.pth\.tar-3, but .* has no checkpoint"):
        run(test, place)
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run(training, place)
    with pytest.raises(UsageError, match="whose training is not finished"):
        run(test, place)
    monkeypatch.delenv("FAKE_STOP")
    run(training, place)
    assert not run(test, place).skipped


def test_a_test_takes_the_settings_of_its_model(place: Workspace) -> None:
    training, _ = base2new(place, OPTIM__LR="0.1")
    run(training, place)
    with pytest.raises(UsageError, match=r"other settings \(OPTIM\.LR was 0\.1, now is not set\)"):
        run(base2new(place)[1], place)
    assert not run(base2new(place, OPTIM__LR="0.1")[1], place).skipped


def test_a_model_of_coops_own_scripts_can_be_tested(place: Workspace) -> None:
    _, test = base2new(place)
    assert test.model_folder is not None
    models = test.model_folder / "prompt_learner"
    models.mkdir(parents=True)
    (models / "model.pth.tar-2").touch()
    with pytest.raises(UsageError, match=r"has model\.pth\.tar-2"):
        run(test, place)
    (models / "model.pth.tar-3").touch()
    assert not run(test, place).skipped


def test_a_test_runs_again_when_its_model_was_trained_again(place: Workspace) -> None:
    training, test = base2new(place)
    run(training, place)
    run(test, place)
    marker = training.folder / "finished.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "finished": "later"}))
    said: list[str] = []
    assert not run(test, place, say=said.append).skipped
    assert said[0] == f"again {test.name}: its model was trained again (later)"


def test_a_running_job_is_left_alone(place: Workspace) -> None:
    training, _ = base2new(place)
    training.folder.mkdir(parents=True)
    with (
        job_lock(training.folder / LOCK, print),
        pytest.raises(LockHeldError, match=f"process {os.getpid()} runs this job"),
    ):
        run(training, place)
    assert not run(training, place).skipped


def test_an_interrupted_runner_ends_its_child_and_gives_the_lock_back(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    (place.root / "train.py").write_text("import time\ntime.sleep(60)")
    children = []

    def interrupted(lock: JobLock, pid: int) -> None:
        children.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(JobLock, "note_child", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(training, place)
    with pytest.raises(ProcessLookupError):
        os.kill(children[0], 0)
    assert not (training.folder / LOCK).exists()
    assert not (training.folder / "finished.json").exists()


def write_lock(path: Path, **owner: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"pid": os.getpid(), "child": None, "host": socket.gethostname(), **owner})
    )


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_lock_of_a_dead_process_is_taken_over(place: Workspace) -> None:
    training, _ = base2new(place)
    pid = dead_pid()
    write_lock(training.folder / LOCK, pid=pid)
    said: list[str] = []
    assert not run(training, place, say=said.append).skipped
    assert f"take over the lock of process {pid}" in said[0]


def test_a_child_that_outlives_its_runner_keeps_the_lock(tmp_path: Path) -> None:
    write_lock(tmp_path / LOCK, pid=dead_pid(), child=os.getpid())
    with pytest.raises(LockHeldError), job_lock(tmp_path / LOCK, print):
        pass
    assert (tmp_path / LOCK).exists()


def test_a_lock_of_another_machine_is_never_taken_over(tmp_path: Path) -> None:
    write_lock(tmp_path / LOCK, pid=dead_pid(), host="elsewhere")
    with (
        pytest.raises(LockHeldError, match="on elsewhere runs this job"),
        job_lock(tmp_path / LOCK, print),
    ):
        pass


def test_an_unreadable_lock_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    with pytest.raises(LockHeldError, match="delete the file"), job_lock(tmp_path / LOCK, print):
        pass
