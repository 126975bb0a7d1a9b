"""Run chains of jobs in threads and in submitit's local jobs with a fake train.py."""

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from scripts.runner.execute import run_chain, run_chains, run_in_threads, run_on_slurm
from scripts.runner.job import DONE, FAILED, SKIPPED, Job, Result, Workspace
from scripts.runner.plan import plan_grid
from scripts.runner.progress import Progress, last_epoch
from tests.scripts.fake_project import ROOT, make_project


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_project(tmp_path)


def chains_of(workspace: Workspace, protocol: str = "base2new") -> list[list[Job]]:
    return plan_grid(["coop"], ["critters"], [1, 2], [protocol], {}, workspace)


def starts(job: Job) -> int:
    """Return how often train.py ran in the job's folder."""
    return (job.folder / "log.txt").read_text().count("--seed")


def test_chain_runs_in_order_and_reruns_only_unfinished_jobs(workspace: Workspace) -> None:
    chain, _ = chains_of(workspace)
    reported: list[Result] = []
    logs = workspace.output / "logs"
    assert run_chain(chain, workspace, logs, report=reported.append) == reported
    assert [(result.job, result.status) for result in reported] == [(job, DONE) for job in chain]
    again = run_chain(chain, workspace, logs)
    assert [result.status for result in again] == [SKIPPED, SKIPPED]
    since = [result.status for result in run_chain(chain, workspace, logs, since=0.0)]
    assert since == [DONE, DONE]  # in an earlier attempt of the same chain
    assert len(list(logs.iterdir())) == 2


def test_failed_job_stops_its_chain(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_EXIT", "7")
    chain, _ = chains_of(workspace)
    (result,) = run_chain(chain, workspace, workspace.output / "logs")
    assert (result.status, result.code) == (FAILED, 7)
    assert "failed with exit code 7" in result.reason


@pytest.mark.parametrize("fails", [False, True])
def test_job_in_several_chains_runs_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr("scripts.runner.run_job.WAIT", 0.1)
    if fails:
        monkeypatch.setenv("FAKE_EXIT", "3")
    (teacher,), (student,) = chains_of(workspace, "base2new_train")
    other = plan_grid(["textrefiner"], ["critters"], [1], ["base2new_train"], {}, workspace)[0][0]
    execute = partial(run_in_threads, workers=2)
    chains = [[teacher, student], [teacher, other]]
    results = run_chains(chains, workspace, workspace.output, execute)
    statuses = {result.job.folder: result.status for result in results}
    if fails:
        assert statuses == {teacher.folder: FAILED}
        assert not student.folder.exists()
    else:
        assert statuses == dict.fromkeys([teacher.folder, student.folder, other.folder], DONE)
    assert starts(teacher) == 1


def test_exception_in_the_watcher_stops_all_jobs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watch(result: Result) -> None:
        monkeypatch.setenv("FAKE_SLEEP", "600")
        raise RuntimeError("enough")

    began = time.monotonic()
    with pytest.raises(RuntimeError, match="enough"):
        run_chains(chains_of(workspace), workspace, workspace.output, run_in_threads, watch)
    assert time.monotonic() - began < 30


def test_slurm_jobs_run_chains(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Use submitit's local executor in place of Slurm."""
    pytest.importorskip("submitit")
    monkeypatch.setattr("scripts.runner.execute.POLL", 0.1)
    good, bad = chains_of(workspace)
    bad[0].options["OPTIM.LR"] = "0.1"  # type: ignore[index]  # so its test raises
    execute = partial(run_on_slurm, cluster="local", minutes=5)
    results = run_chains([good, bad], workspace, workspace.output, execute)
    assert sorted(result.status for result in results) == [DONE, DONE, DONE, FAILED]
    (failed,) = [result for result in results if result.status == FAILED]
    assert "OPTIM.LR was 0.1, now is not set" in failed.reason
    assert "[4/4] " in capsys.readouterr().out
    again = run_chains([good], workspace, workspace.output, execute)
    assert [result.status for result in again] == [SKIPPED, SKIPPED]


def test_killed_slurm_job_fails_and_can_be_resumed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setattr("scripts.runner.execute.POLL", 0.1)
    chain, _ = chains_of(workspace)
    train = workspace.root / "train.py"
    text = train.read_text()
    train.write_text("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n")
    execute = partial(run_on_slurm, cluster="local", minutes=5)
    (result,) = run_chains([chain], workspace, workspace.output, execute)
    assert (result.status, result.job.folder) == (FAILED, chain[0].folder)
    assert "Slurm job" in result.reason
    train.write_text(text)
    results = run_chains([chain], workspace, workspace.output, execute)
    assert [result.status for result in results] == [DONE, DONE]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_sweep_stops_its_jobs_and_resumes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setenv("FAKE_SLEEP", "60")
    program = (
        f"import sys\nfrom pathlib import Path\nfrom scripts import sweep\n"
        f"from scripts.runner import job\njob.ROOT = Path({str(workspace.root)!r})\n"
        "sys.exit(sweep.main(sys.argv[1:], {}))"
    )
    words = ["--trainers", "coop", "--datasets", "critters", "--seeds", "1", "2", "--workers", "2"]
    sweep = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    jobs = [chain[0] for chain in chains_of(workspace)]
    limit = time.monotonic() + 60
    while not all((job.folder / "log.txt").is_file() for job in jobs):
        assert time.monotonic() < limit
        time.sleep(0.1)
    sent = time.monotonic()
    sweep.send_signal(number)
    output, _ = sweep.communicate(timeout=30)
    assert time.monotonic() - sent < 20
    assert sweep.returncode == 128 + number, output
    assert "0 jobs done, 0 finished before, 0 failed, 4 not run" in output
    monkeypatch.delenv("FAKE_SLEEP")
    results = [result for chain in chains_of(workspace) for result in
               run_chain(chain, workspace, workspace.output / "logs")]  # fmt: skip
    assert [result.status for result in results] == [DONE] * 4
    assert all((job.folder / "log.txt").read_text().count("resumed") == 1 for job in jobs)


def fake_job(name: str, trainer: str = "CoOp", is_test: bool = False) -> Job:
    return Job(name, trainer, "dtd", 1, "a/b", Path("out") / name, {}, eval_only=is_test)


def test_remaining_time_is_estimated_from_similar_jobs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("scripts.runner.progress.time.monotonic", lambda: clock[0])
    coops = [fake_job("a"), fake_job("b"), fake_job("c")]
    tests = [fake_job("d", is_test=True), fake_job("e", is_test=True)]
    maple = fake_job("f", "MaPLe")
    progress = Progress([*coops, *tests, maple], lambda job: Path("nowhere"))
    assert progress.seconds_left() is None
    clock[0] = 15.0  # two jobs at a time
    progress.report(Result(coops[0], DONE, 30.0))
    assert progress.seconds_left() == pytest.approx((30 + 30 + 30 + 30 + 30) / 2)
    clock[0] = 20.0
    progress.report(Result(tests[0], DONE, 10.0))
    assert progress.seconds_left() == pytest.approx((30 + 30 + 10 + 30) / 2)
    clock[0] = 45.0
    assert progress.report(Result(maple, DONE, 50.0))
    assert progress.seconds_left() == pytest.approx((30 + 30 + 10) / 2)
    assert not progress.report(Result(maple, SKIPPED))  # the same job in another chain: not printed
    assert capsys.readouterr().out.count("\n") == 3
    for each in (*coops[1:], tests[1]):
        progress.report(Result(each, SKIPPED))
    assert progress.seconds_left() is None
    assert "[6/6] " in capsys.readouterr().out


def test_progress_bar_shows_the_running_job_and_its_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    jobs = [fake_job("a"), fake_job("b")]
    progress = Progress(jobs, lambda job: tmp_path / f"{job.name}.log")
    progress.refresh()
    (tmp_path / "b.log").write_text("epoch [1/5] batch [1/9]\nepoch [2/5] batch [3/9] loss 1\n")
    assert last_epoch(tmp_path / "b.log") == ", epoch 2/5"
    progress.refresh()
    assert progress.bar.postfix == "b, epoch 2/5"
    progress.close()
