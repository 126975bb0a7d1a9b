"""Chains of jobs on an executor that runs nothing: what is started, what is not, what is said."""

import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from scripts.runner.countdown import Countdown
from scripts.runner.grid import Chain, grid
from scripts.runner.job import Job
from scripts.runner.pool import Pool, log_in
from scripts.runner.sweeping import DONE, FAILED, Result, sweep
from tests.scripts.fake_project import make_project


def job(name: str, trainer: str = "CoOp", is_test: bool = False) -> Job:
    return Job(name, trainer, "dtd", 1, "a/b", Path("out") / name, {}, eval_only=is_test)


class Recorder:
    """Room for all; a job ends when it is waited for, in the order of the starts.

    Args:
        failing: names of the jobs that fail.
    """

    def __init__(self, failing: Sequence[str] = ()) -> None:
        self.failing = failing
        self.started: list[str] = []
        self.alongside: list[list[str]] = []  # what was running when each wait began
        self._chains: list[Chain] = []
        self.stopped = False

    @property
    def running(self) -> int:
        return len(self._chains)

    def has_room(self, job: Job) -> bool:
        return True

    def start(self, chain: Chain) -> None:
        self.started.append(chain.job.name)
        self._chains.append(chain)

    def wait(self, seconds: float) -> Iterable[tuple[Chain, Result]]:
        self.alongside.append([chain.job.name for chain in self._chains])
        if not self._chains:
            return []
        chain = self._chains.pop(0)
        failed = chain.job.name in self.failing
        return [(chain, Result(chain.job, FAILED if failed else DONE, 1.0))]

    def stop(self) -> None:
        self.stopped = True


def students() -> list[Chain]:
    teacher = job("teacher")
    return [Chain([teacher, job("first")]), Chain([teacher, job("second")]), Chain([job("other")])]


def test_a_job_of_two_chains_is_never_run_beside_itself() -> None:
    executor = Recorder()
    results = sweep(students(), executor, lambda result: None)
    assert executor.alongside[0] == ["teacher", "other"]
    assert executor.started[:2] == ["teacher", "other"]
    assert sorted(executor.started) == ["first", "other", "second", "teacher", "teacher"]
    assert len(results) == 5


def test_a_failed_job_ends_all_chains_that_hold_it_and_no_other() -> None:
    executor = Recorder(failing=["teacher"])
    results = sweep(students(), executor, lambda result: None)
    assert executor.started == ["teacher", "other"]
    assert [result.status for result in results] == [FAILED, DONE]


def test_what_the_report_raises_stops_the_executor() -> None:
    executor = Recorder()

    def report(result: Result) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        sweep(students(), executor, report)
    assert executor.stopped


def test_the_time_left_is_that_of_the_jobs_alike(capsys: pytest.CaptureFixture[str]) -> None:
    coops = [job("a"), job("b"), job("c")]
    tests = [job("d", is_test=True), job("e", is_test=True)]
    maple = job("f", "MaPLe")
    countdown = Countdown([*coops, *tests, maple], workers=2)
    assert countdown.left() is None
    countdown.report(Result(coops[0], DONE, 30.0))
    assert countdown.left() == pytest.approx((30 + 30 + 30 + 30 + 30) / 2)
    countdown.report(Result(tests[0], DONE, 10.0))
    assert countdown.left() == pytest.approx((30 + 30 + 10 + 30) / 2)
    countdown.report(Result(maple, DONE, 50.0))
    assert countdown.left() == pytest.approx((30 + 30 + 10) / 2)
    countdown.report(Result(maple, "skipped"))  # the same job, in another chain: not a line more
    assert capsys.readouterr().out.count("\n") == 3
    for each in (*coops[1:], tests[1]):
        countdown.report(Result(each, "skipped"))
    assert countdown.left() is None
    assert "[6/6] " in capsys.readouterr().out


def test_stopping_a_pool_ends_the_jobs_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_project(tmp_path)
    monkeypatch.setenv("FAKE_SLEEP", "600")
    chains = grid(["coop"], ["critters"], [1, 2], ["base2new_train"], {}, place)
    pool = Pool(place, log_in(tmp_path, place), workers=2)
    for chain in chains:
        pool.start(chain)
    assert not pool.has_room(chains[0].job)
    while not all((chain.job.folder / "log.txt").is_file() for chain in chains):
        time.sleep(0.1)
    pool.stop()
    ended = {chain.job.seed: result for chain, result in pool.wait(0)}
    assert {seed: (result.status, result.code) for seed, result in ended.items()} == {
        1: (FAILED, 128 + signal.SIGTERM),
        2: (FAILED, 128 + signal.SIGTERM),
    }
    assert not list(tmp_path.rglob("finished.json"))
