"""Jobs are recorded, skipped, resumed and locked; the fake train.py only writes files."""

import json
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dassl.engine import run_records
from dassl.utils import UsageError
from scripts.runner.files import LogFile
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan
from scripts.runner.run_job import Children, JobFailedError, run_job
from tests.scripts.fake_project import ROOT, is_locked, make_project


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_project(tmp_path)


def base2new(place: Workspace, **options: str) -> tuple[Job, Job]:
    pairs = {key.replace("__", "."): value for key, value in options.items()}
    training, test = plan(Request("coop", "base2new", "critters", 1, options=pairs), place)
    return training, test


def lines_of(job: Job) -> list[str]:
    return (job.folder / "log.txt").read_text().splitlines()


def record_of(job: Job) -> dict[str, object]:
    return json.loads((job.folder / "run.json").read_text())


def test_finished_job_is_recorded_and_skipped(
    place: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    training, _ = base2new(place)
    assert run_job(training, place) is not None
    before = lines_of(training)
    assert run_job(training, place) is None
    assert lines_of(training) == before
    assert f"\nskip  {training.name}: finished " in capfd.readouterr().out

    record = json.loads((training.folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["command"].split()[1] == "train.py"
    assert record["settings"] == training.settings(place)
    assert record["settings"]["OPTIM.MAX_EPOCH"] == 3
    assert record["settings"]["--seed"] == 1
    assert record["versions"]["torch"]
    assert record["seconds"] >= 0
    assert {"commit", "started", "finished", "model"} <= set(record)
    assert not is_locked(training.folder)


OLD = {"job": "j", "command": "python train.py", "model": None, "versions": {}, "commit": None,
       "started": "2026-01-01T00:00:00+00:00"}  # fmt: skip


def write_old_records(job: Job, place: Workspace, *, finished: bool = True) -> None:
    """Write the records of runner versions without run.json."""
    job.folder.mkdir(parents=True, exist_ok=True)
    started = {**OLD, "settings": job.settings(place)}
    (job.folder / "job.json").write_text(json.dumps(started))
    if finished:
        ended = {**started, "finished": "2026-01-01T01:00:00+00:00", "seconds": 3600.0}
        (job.folder / "finished.json").write_text(json.dumps(ended))


def test_records_of_an_earlier_version_are_read(
    place: Workspace,
) -> None:
    training, test = base2new(place)
    write_old_records(training, place)
    (training.folder / "prompt_learner").mkdir()
    (training.folder / "prompt_learner" / "model.pth.tar-3").touch()
    assert run_job(training, place) is None
    with pytest.raises(UsageError, match=r"OPTIM\.LR was not set, now is 0\.1"):
        run_job(base2new(place, OPTIM__LR="0.1")[0], place)
    assert run_job(test, place) is not None
    assert record_of(test)["model"] == "2026-01-01T01:00:00+00:00"

    (training.folder / "finished.json").unlink()
    with pytest.raises(UsageError, match="checkpoints of other settings"):
        run_job(base2new(place, OPTIM__LR="0.1")[0], place)
    assert run_job(training, place) is not None
    assert lines_of(training)[0].startswith("resumed")
    assert record_of(training)["status"] == "finished"


def test_old_test_runs_again_after_its_model_was_retrained(place: Workspace) -> None:
    training, test = base2new(place)
    write_old_records(test, place)
    run_job(training, place)
    assert run_job(test, place) is not None
    assert run_job(test, place) is None


def test_output_of_the_job_is_passed_through(
    place: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    run_job(base2new(place)[0], place)
    assert "output of the fake" in capfd.readouterr().out


def test_output_of_the_job_is_written_to_a_file(place: Workspace, tmp_path: Path) -> None:
    with open(tmp_path / "job.log", "w") as stream:
        run_job(base2new(place)[0], place, output=stream)
    assert (tmp_path / "job.log").read_text().splitlines()[2:] == ["output of the fake"]


def test_failed_job_returns_its_exit_code_and_runs_again(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    monkeypatch.setenv("FAKE_EXIT", "5")
    with pytest.raises(JobFailedError, match=r"exit code 5; its log: .*log\.txt") as failure:
        run_job(training, place)
    assert failure.value.code == 5
    assert record_of(training)["status"] == "failed"
    assert not is_locked(training.folder)
    monkeypatch.delenv("FAKE_EXIT")
    assert run_job(training, place) is not None
    assert record_of(training)["status"] == "finished"


def test_unfinished_job_resumes_in_its_folder(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run_job(training, place)
    monkeypatch.delenv("FAKE_STOP")
    run_job(training, place)
    assert [line.split()[0] for line in lines_of(training)][:2] == ["fresh", "resumed"]


def test_exit_code_of_a_killed_job_is_128_plus_the_signal(place: Workspace) -> None:
    (place.root / "train.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with pytest.raises(JobFailedError) as failure:
        run_job(base2new(place)[0], place)
    assert failure.value.code == 137


def test_other_options_in_a_finished_folder_raise(place: Workspace) -> None:
    run_job(base2new(place)[0], place)
    other, _ = base2new(place, OPTIM__LR="0.1")
    with pytest.raises(UsageError, match=r"OPTIM\.LR was not set, now is 0\.1.*another OUTPUT"):
        run_job(other, place)


def test_changed_config_raises_but_a_changed_comment_does_not(place: Workspace) -> None:
    training, _ = base2new(place)
    run_job(training, place)
    config = place.trainer_config(training.config)
    config.write_text("# a comment\n" + config.read_text())
    assert run_job(training, place) is None
    config.write_text(config.read_text().replace("3", "4"))
    with pytest.raises(UsageError, match=r"OPTIM\.MAX_EPOCH was 3, now is 4"):
        run_job(training, place)


def test_option_equal_to_the_config_is_not_a_difference(place: Workspace) -> None:
    run_job(base2new(place)[0], place)
    again, _ = base2new(place, OPTIM__MAX_EPOCH="3")
    assert run_job(again, place) is None


def test_speed_and_output_options_are_not_a_difference(place: Workspace) -> None:
    run_job(base2new(place)[0], place)
    again, _ = base2new(place, DATALOADER__NUM_WORKERS="0", TRAIN__PRINT_FREQ="1")
    assert run_job(again, place) is None


def test_checkpoints_of_another_command_are_not_resumed(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run_job(base2new(place)[0], place)
    other, _ = base2new(place, OPTIM__LR="0.1")
    with pytest.raises(UsageError, match=r"contains checkpoints of other settings \(OPTIM\.LR"):
        run_job(other, place)


def test_options_may_change_before_the_first_checkpoint(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    typo, _ = base2new(place, OPTIM__LR="10")
    (place.root / "train.py").rename(place.root / "real.py")
    (place.root / "train.py").write_text("raise SystemExit(2)")
    with pytest.raises(JobFailedError, match=r"it wrote no log\.txt: the reason is above"):
        run_job(typo, place)
    (place.root / "real.py").rename(place.root / "train.py")
    assert run_job(base2new(place, OPTIM__LR="0.1")[0], place) is not None


def test_test_job_requires_a_finished_model(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, test = base2new(place)
    with pytest.raises(UsageError, match=r"reads model\.pth\.tar-3, but .* has no checkpoint"):
        run_job(test, place)
    monkeypatch.setenv("FAKE_STOP", "1")
    with pytest.raises(JobFailedError):
        run_job(training, place)
    with pytest.raises(UsageError, match="whose training is not finished"):
        run_job(test, place)
    monkeypatch.delenv("FAKE_STOP")
    run_job(training, place)
    assert run_job(test, place) is not None


def test_test_job_uses_the_settings_of_its_model(place: Workspace) -> None:
    training, _ = base2new(place, OPTIM__LR="0.1")
    run_job(training, place)
    with pytest.raises(UsageError, match=r"other settings \(OPTIM\.LR was 0\.1, now is not set\)"):
        run_job(base2new(place)[1], place)
    assert run_job(base2new(place, OPTIM__LR="0.1")[1], place) is not None


def test_model_trained_by_coops_scripts_can_be_tested(place: Workspace) -> None:
    _, test = base2new(place)
    assert test.model_folder is not None
    models = test.model_folder / "prompt_learner"
    models.mkdir(parents=True)
    (models / "model.pth.tar-2").touch()
    with pytest.raises(UsageError, match=r"has model\.pth\.tar-2"):
        run_job(test, place)
    (models / "model.pth.tar-3").touch()
    assert run_job(test, place) is not None


def test_test_job_runs_again_after_its_model_was_retrained(
    place: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    training, test = base2new(place)
    run_job(training, place)
    run_job(test, place)
    path = training.folder / "run.json"
    path.write_text(json.dumps({**record_of(training), "finished": "later"}))
    assert run_job(test, place) is not None
    assert f"again {test.name}: its model was trained again (later)" in capfd.readouterr().out


def test_job_waits_for_a_locked_folder(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 75 is enough: the other run may have been started without a runner."""
    monkeypatch.setattr("scripts.runner.run_job.WAIT", 0.1)
    training, _ = base2new(place)
    with run_records.folder_lock(training.folder):
        thread = threading.Thread(target=run_job, args=(training, place))
        thread.start()
        time.sleep(2)
        assert not (training.folder / "run.json").exists()
    thread.join(60)
    assert record_of(training)["status"] == "finished"
    assert "error: another run is using" in capfd.readouterr().out


def test_two_runners_run_a_job_once(place: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    training, _ = base2new(place)
    threads = [threading.Thread(target=run_job, args=(training, place)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len([line for line in lines_of(training) if "--seed" in line]) == 1
    shown = capfd.readouterr().out
    assert shown.count(f"wait  {training.name}: another runner has it") == 2
    assert shown.count(f"skip  {training.name}: finished ") == 2


def test_job_that_failed_in_another_chain_is_not_restarted(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, _ = base2new(place)
    began = time.time()
    monkeypatch.setenv("FAKE_EXIT", "5")
    for _ in range(2):
        with pytest.raises(JobFailedError):
            run_job(training, place, since=began)
    assert len([line for line in lines_of(training) if "--seed" in line]) == 1
    monkeypatch.delenv("FAKE_EXIT")
    assert run_job(training, place, since=time.time()) is not None


@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_kills_a_job_that_ignores_sigterm(
    place: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr("scripts.runner.run_job.GRACE", 1.0)
    ready = tmp_path / "ready"
    ignore = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    (place.root / "train.py").write_text(
        f"import signal, time, pathlib\n{ignore}"
        f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)"
    )
    children, codes = Children(), []

    def work() -> None:
        try:
            run_job(base2new(place)[0], place, children=children)
        except JobFailedError as error:
            codes.append(error.code)

    thread = threading.Thread(target=work)
    thread.start()
    while not ready.exists():
        time.sleep(0.05)
    children.stop()
    thread.join(10)
    assert codes == [128 + (signal.SIGKILL if stubborn else signal.SIGTERM)]
    with pytest.raises(JobFailedError):  # no job starts after a stop
        run_job(base2new(place)[0], place, children=children)


def test_train_py_exits_when_its_runner_is_killed(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SLEEP", "60")
    training, _ = base2new(place)
    program = (
        "import pickle, sys\nfrom scripts.runner.run_job import run_job\n"
        "run_job(*pickle.load(sys.stdin.buffer))"
    )
    runner = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE)
    assert runner.stdin is not None
    pickle.dump((training, place), runner.stdin)
    runner.stdin.close()
    limit = time.monotonic() + 60
    while not (training.folder / "log.txt").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    while is_locked(training.folder):
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert record_of(training)["status"] == "running"  # according to its record
    monkeypatch.delenv("FAKE_SLEEP")
    assert run_job(training, place) is not None


def test_failure_is_reported_with_its_last_error_line(place: Workspace, tmp_path: Path) -> None:
    training, _ = base2new(place, OPTIM__LR="0.1")
    (place.root / "train.py").write_text(
        "import sys\nprint('error: the first')\nprint('error: the last', file=sys.stderr)\n"
        "print('more')\nsys.exit(2)\n"
    )
    with LogFile(tmp_path / "job.log") as log:
        log.write("error: of an earlier attempt\n")
        log.flush()
        with pytest.raises(JobFailedError, match=r"failed with exit code 2: the last$"):
            run_job(training, place, output=log)
        (place.root / "train.py").write_text("import sys\nsys.exit(3)\n")
        with pytest.raises(JobFailedError, match=r"exit code 3; it wrote no log.txt"):
            run_job(training, place, output=log)
