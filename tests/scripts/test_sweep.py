"""A grid of jobs with a fake train.py, run locally and on two nodes of a Ray cluster."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from dassl.engine import run_records
from dassl.utils import UsageError
from scripts import sweep as command
from scripts.runner.job import Workspace
from scripts.runner.plan import plan_grid
from scripts.runner.resources import Estimates
from tests.scripts.fake_project import ROOT, is_locked, make_project

GRID = ["--trainers", "coop", "TextRefinerCoOp", "--datasets", "critters", "--seeds", "1", "2"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    place = make_project(tmp_path)
    monkeypatch.setattr("scripts.runner.job.ROOT", tmp_path)
    return place


def runs_of(place: Workspace) -> list[str]:
    """Return the first lines of all logs: one per process started in the folder."""
    logs = sorted((place.output / "base2new").rglob("log.txt"))
    return [line for log in logs for line in log.read_text().splitlines() if "--seed" in line]


def test_grid_has_a_chain_per_method_dataset_and_seed(place: Workspace) -> None:
    chains = plan_grid(
        ["coop", "textrefiner"], ["critters", "dtd"], [1, 2], ["base2new"], {}, place
    )
    assert len(chains) == 8
    assert all(len(chain) == 2 for chain in chains)
    assert [chain[0].seed for chain in chains] == [1] * 4 + [2] * 4


def test_methods_are_found_by_method_or_trainer_name(place: Workspace) -> None:
    assert place.table.method("TextRefinerCoOp") == place.table.method("textrefiner")
    with pytest.raises(UsageError, match=r"trainer 'TextRefinrCoOp'.*TextRefiner"):
        place.table.method("TextRefinrCoOp")


def test_local_sweep_runs_all_jobs_writes_one_table_and_skips_next_time(
    place: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(GRID, {}) == 0
    shown = capsys.readouterr().out
    assert "8 jobs done, 0 finished before, 0 failed, 0 not run" in shown
    (table,) = json.loads((place.output / "sweeps/base2new/results.json").read_text())["tables"]
    assert [row["cells"]["base"]["seeds"] for row in table["rows"]] == [{"1": 61.0, "2": 62.0}] * 2
    assert "| CoOp " in shown
    assert "| TextRefinerCoOp " in shown
    assert len(list((place.output / "sweeps/base2new/logs").iterdir())) == 8

    assert command.main(GRID, {}) == 0
    assert "0 jobs done, 8 finished before" in capsys.readouterr().out
    assert len(runs_of(place)) == 8


def test_failed_job_stops_its_chain_and_sets_the_exit_code(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_STOP", "1")
    assert command.main(GRID, {}) == 1
    shown = capsys.readouterr().out
    assert "0 jobs done, 0 finished before, 4 failed, 4 not run" in shown
    assert "failed: coop base2new, critters, base classes, 16-shot, seed 1 failed with" in shown

    monkeypatch.delenv("FAKE_STOP")
    assert command.main(GRID, {}) == 0
    assert sum(line.startswith("resumed") for line in runs_of(place)) == 4


def test_sweep_waits_for_a_job_of_another_run(
    place: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scripts.runner.run_job.WAIT", 0.1)
    first = plan_grid(["coop"], ["critters"], [1], ["base2new"], {}, place)[0][0]

    def hold() -> None:
        with run_records.folder_lock(first.folder):
            time.sleep(2)

    holder = Thread(target=hold)
    holder.start()
    assert command.main(GRID, {}) == 0
    holder.join()
    assert "8 jobs done" in capsys.readouterr().out


def test_several_workers(place: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*GRID, "--workers", "3"], {}) == 0
    assert "8 jobs done, 0 finished before, 0 failed, 0 not run" in capsys.readouterr().out


def test_estimates_use_the_most_similar_finished_job(place: Workspace) -> None:
    jobs = plan_grid(["coop"], ["critters"], [1, 2], ["base2new"], {}, place)
    estimates = Estimates(place)
    assert estimates.line(jobs[0][0]) == (
        f"estimate: none, no job like it has finished below {place.output}"
    )
    assert command.main([*GRID[:5], "--seeds", "1"], {}) == 0
    line = Estimates(place).line(jobs[1][0])
    assert line.endswith(f"s, 1.0 GiB of memory, as in {jobs[0][0].folder}")


def test_dry_run_runs_nothing(place: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*GRID, "--dry-run"], {}) == 0
    shown = capsys.readouterr().out
    assert shown.count("estimate: none") == 8
    assert not (place.output / "base2new").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--trainers", "cop", "--datasets", "critters"], "unknown method or trainer 'cop'"),
        (["--trainers", "coop", "--datasets", "criters"], "unknown dataset 'criters'"),
        ([*GRID, "--protocol", "base2old"], "unknown protocol 'base2old'"),
        ([*GRID, "--ray-address", "auto"], "--ray-address auto is read with --ray only"),
        ([*GRID, "--set", "OPTIM.LR"], "has no value"),
        (
            [*GRID, "--workers", "0"],
            "--workers: takes a whole number from 1",
        ),
        ([*GRID, "--slurm", "--gpus", "0.5"], "--gpus 0.5 is a share, which Slurm does not have"),
        ([*GRID, "--slurm"], "--slurm needs Slurm's commands on this machine"),
        (
            [*GRID, "--ray", "--ray-address", "127.0.0.1:1"],
            "no Ray cluster at 127.0.0.1:1 ([Errno 111] Connection refused): start one with",
        ),
        (
            [*GRID, "--ray", "--ray-address", "here"],
            "no Ray cluster at here (an address is HOST:PORT, or auto): start one with",
        ),
    ],
)
def test_bad_input_is_reported_in_one_sentence(
    place: Workspace, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words, {}) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error


def start_sweep(place: Workspace, address: str) -> subprocess.Popen[str]:
    """Start scripts/sweep.py in a new process, on the cluster at ``address``."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom scripts import sweep\n"
        f"from scripts.runner import job\njob.ROOT = Path({str(place.root)!r})\n"
        "sys.exit(sweep.main(sys.argv[1:], {}))\n"
    )
    words = [*GRID, "--ray", "--ray-address", address]
    # FAKE_SLEEP reaches the jobs through the cluster's nodes, which were started with it.
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(condition: Any, seconds: float = 240.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.1)


def test_ray_cluster_that_loses_a_node_runs_every_job_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    place = make_project(tmp_path)
    monkeypatch.setenv("FAKE_SLEEP", "3")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        cluster.wait_for_nodes()
        process = start_sweep(place, cluster.address)
        wait_for(lambda: len(runs_of(place)) >= 2)  # one job on each node
        cluster.remove_node(second, allow_graceful=False)
        output, _ = process.communicate(timeout=300)
    finally:
        cluster.shutdown()
    assert process.returncode == 0, output
    assert "8 jobs done, 0 finished before, 0 failed, 0 not run" in output
    folders = run_records.find_run_records(place.output / "base2new")
    assert len(folders) == 8
    assert all(run_records.is_finished(folder) for folder in folders)
    assert not any(is_locked(folder) for folder in folders)
    runs = runs_of(place)
    # The job of the lost node resumed from its checkpoint; no other job ran twice.
    assert len(runs) == 9
    assert sum(line.startswith("resumed") for line in runs) == 1
    ends = [log.read_text().count("=> result") for log in place.output.rglob("log.txt")]
    assert ends == [1] * 8
