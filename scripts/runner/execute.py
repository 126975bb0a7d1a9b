"""Run chains of jobs: `run_chain` in threads of this process, in Ray tasks or in Slurm jobs.

results = run_chains(chains, workspace, folder, partial(run_in_threads, workers=2))

A chain is a list of jobs that need one another, such as a training and its tests: a failed job ends
its chain, not the others. A job of several chains runs once: output folders are locked, so the
other chains wait for it and find it finished. A chain may be run again at any time.
"""

import os
import queue
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from dassl.engine.run_records import read_run_record
from dassl.utils import UsageError
from dassl.utils.failures import run_program
from scripts.runner.files import LogFile, make_folder
from scripts.runner.job import DONE, FAILED, ROOT, SKIPPED, Chain, Job, Result, Workspace
from scripts.runner.progress import Progress
from scripts.runner.run_job import Children, JobFailedError, ended_after, run_job

POLL = 1.0  # seconds
Running = Generator[Result | None, None, None]  # None: some time passed without a result


def run_chain(
    chain: Chain,
    workspace: Workspace,
    logs: Path | None,
    *,
    threads: int = 0,
    since: float = float("inf"),
    report: Callable[[Result], None] = lambda result: None,
    children: Children | None = None,
) -> list[Result]:
    """Run the jobs one after another up to the first that fails; ``report`` and return results.

    ``logs`` receives a file of each job's output, or None prints it; the others as in `run_job`.
    """
    results: list[Result] = []
    for job in chain:
        options = {"threads": threads, "since": since, "children": children}
        log = None if logs is None else job_log_path(logs, job, workspace)
        result = _attempt(job, workspace, log, options)
        results.append(result)
        report(result)
        if result.status == FAILED:
            break
    return results


def _attempt(job: Job, workspace: Workspace, log: Path | None, options: Any) -> Result:
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
    output = None if log is None else LogFile(log)
    try:
        seconds = run_job(job, workspace, output=output, **options)
    except (UsageError, JobFailedError) as error:
        print(f"error: {error}", file=output or sys.stderr, flush=True)
        return Result(job, FAILED, reason=str(error), code=getattr(error, "code", 2))
    finally:
        if output is not None:
            output.close()
    if seconds is None and ended_after(job, options["since"]):  # in another attempt or chain
        seconds = read_run_record(job.folder)["seconds"]
    return Result(job, SKIPPED if seconds is None else DONE, seconds or 0.0)


def job_log_path(logs: Path, job: Job, workspace: Workspace) -> Path:
    """Return the file in ``logs`` for a job's output, named after the job's folder."""
    return logs / (re.sub(r"[^\w.]+", "_", str(job.folder.relative_to(workspace.output))) + ".log")


def run_chains(
    chains: Sequence[Chain],
    workspace: Workspace,
    folder: Path,
    execute: Callable[[Sequence[Chain], Workspace, Path], Running],
    watch: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run all chains, print a line for each job that ends, and return the results in that order.

    Args:
        folder: output of the jobs is written to its logs/.
        execute: one of the functions below, with its options.
        watch: called with each result after its line; an exception from it ends all jobs.
    """
    make_folder(folder, "OUTPUT")
    logs = folder / "logs"
    jobs = [job for chain in chains for job in chain]
    progress = Progress(jobs, lambda job: job_log_path(logs, job, workspace))
    results = []
    with closing(progress), closing(execute(chains, workspace, logs)) as running:
        for result in running:
            if result is None:
                progress.refresh()
            elif progress.report(result):
                results.append(result)
                watch(result)
    return results


def run_in_threads(
    chains: Sequence[Chain], workspace: Workspace, logs: Path, *, workers: int = 1
) -> Running:
    """Run ``workers`` chains at a time on this machine; with several, each job has one thread."""
    results: queue.SimpleQueue[Result] = queue.SimpleQueue()
    children = Children()
    options: dict[str, Any] = {"since": time.time(), "children": children}
    options["threads"] = 1 if workers > 1 else 0
    with ThreadPoolExecutor(workers) as pool:
        futures = [
            pool.submit(run_chain, chain, workspace, logs, report=results.put, **options)
            for chain in chains
        ]
        try:
            while not (all(future.done() for future in futures) and results.empty()):
                try:
                    yield results.get(timeout=POLL / 10)
                except queue.Empty:
                    yield None
            for future in futures:
                future.result()  # raises what is no result: a bug
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            children.stop()
            raise


def run_on_ray(
    chains: Sequence[Chain],
    workspace: Workspace,
    logs: Path,
    *,
    address: str | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    retries: int = 3,
) -> Running:
    """Run each chain as a Ray task, which Ray starts again on another node when its node dies.

    All nodes must have the same paths. See https://docs.ray.io/en/latest/ray-core/tasks.html.

    Args:
        address: of a running cluster, "auto" for the one of this machine; None starts one here.
        cpus: of a task, and threads of its jobs.
        gpus: of a task, below 1 for a share of one; None: one GPU if the cluster has any.
        retries: how often a task is started again.
    """
    ray = _connect(address)
    found = ray.cluster_resources()
    largest = max(node["Resources"].get("CPU", 0) for node in ray.nodes())
    print(
        f"Ray cluster of {sum(node['Alive'] for node in ray.nodes())} nodes: "
        f"{found.get('CPU', 0):g} CPUs, {found.get('GPU', 0):g} GPUs"
    )
    if cpus > largest:
        raise UsageError(
            f"--cpus is {cpus:g}, the largest node of the cluster has {largest:g}: give at most "
            "that"
        )
    if gpus and not found.get("GPU"):
        raise UsageError(f"--gpus is {gpus:g}, but no node of the cluster has a GPU: leave it out")
    if gpus is None:
        gpus = 1 if found.get("GPU") else 0
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=retries)(run_chain)
    options = {"threads": max(1, int(cpus)), "since": time.time()}
    running = {task.remote(chain, workspace, logs, **options): chain for chain in chains}
    try:
        while running:
            ready, _ = ray.wait(list(running), timeout=POLL)
            for reference in ready:
                chain = running.pop(reference)
                try:
                    yield from ray.get(reference)
                except ray.exceptions.RayError as error:  # more retries were needed than allowed
                    yield _lost(chain, f"Ray gave up: {_last_line(error)}")
            yield None
    except BaseException:
        for reference in running:
            ray.cancel(reference, force=False)
        ray.wait(list(running), num_returns=len(running), timeout=15)
        raise
    finally:
        ray.shutdown()


def run_on_slurm(
    chains: Sequence[Chain],
    workspace: Workspace,
    logs: Path,
    *,
    partition: str | None = None,
    cpus: int = 1,
    gpus: int | None = None,
    minutes: int = 24 * 60,
    array: int = 256,
    cluster: str = "slurm",
) -> Running:
    """Run each chain as a job of a Slurm array, through submitit.

    All nodes must have the same paths. See https://github.com/facebookincubator/submitit.

    Args:
        partition: of the cluster; None: its default.
        cpus: of a chain, and threads of its jobs.
        gpus: of a chain; None: 1.
        minutes: time limit of a chain; one that exceeds it fails and can be resumed.
        array: number of chains at a time.
        cluster: "local" runs the same in processes of this machine.
    """
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--slurm needs submitit: pip install -r requirements-sweep.txt") from error
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    try:
        executor = submitit.AutoExecutor(folder=logs.parent / "slurm", cluster=cluster)
    except RuntimeError as error:
        raise UsageError(f"--slurm needs Slurm's commands on this machine: {error}") from error
    executor.update_parameters(
        name="textrefiner",
        timeout_min=minutes,
        cpus_per_task=cpus,
        gpus_per_node=(1 if gpus is None else gpus) if cluster == "slurm" else 0,
        slurm_partition=partition,
        slurm_array_parallelism=array,
    )
    with executor.batch():
        options = {"threads": cpus, "since": time.time()}
        jobs = [executor.submit(run_chain, chain, workspace, logs, **options) for chain in chains]
    running = dict(zip(jobs, chains, strict=True))
    try:
        while running:
            for job in [job for job in running if job.done()]:
                chain = running.pop(job)
                try:
                    yield from job.result()
                except Exception as error:  # killed, out of time, or out of memory
                    yield _lost(chain, f"Slurm job {job.job_id} failed: {_last_line(error)}")
            yield None
            time.sleep(POLL)
    finally:
        for job in running:
            job.cancel()


def _lost(chain: Chain, reason: str) -> Result:
    """Return the failure of a chain that did not report which job failed."""
    job = next((job for job in chain if not read_run_record(job.folder).get("seconds")), chain[0])
    return Result(job, FAILED, reason=f"{job.name}: {reason}", code=1)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _connect(address: str | None) -> Any:
    """Return the ray module, connected; raise UsageError if that is not possible."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray: pip install -r requirements-sweep.txt") from error
    try:
        if address is not None and address != "auto":
            _check_reachable(address)
        ray.init(
            address=address,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False if address is None else None,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"no Ray cluster at {address} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, or leave --ray-address out to use this machine alone"
        ) from error
    return ray


def _check_reachable(address: str) -> None:
    """Raise OSError or ValueError if nothing listens there; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("an address is HOST:PORT, or auto")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def run_command(command: Callable[[], int]) -> int:
    """Run a command-line program as `run_program` does; SIGTERM raises SystemExit meanwhile.

    So running jobs are ended.
    """
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return run_program(command, "the same command continues where this one stopped")
    finally:
        signal.signal(signal.SIGTERM, before)
