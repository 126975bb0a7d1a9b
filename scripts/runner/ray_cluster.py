"""Jobs as tasks of a Ray cluster: https://docs.ray.io/en/latest/ray-core/tasks.html.

A task is one train.py process with its CPUs or its fraction of a GPU. Ray runs a task again when
its node dies; the runner's marks and train.py's checkpoints make that a continuation. The nodes
must see the repository, the images and the results under the same paths (docs/scale.md).
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dassl.utils import UsageError
from scripts.runner.grid import Chain
from scripts.runner.job import Job, Workspace
from scripts.runner.resources import GIB, Estimates
from scripts.runner.sweeping import FAILED, Result, attempt

HEADROOM = 1.25  # over the measured peak, for fragmentation and the driver's own memory
CONTEXT_BYTES = GIB // 2  # what a CUDA context takes beside PyTorch's memory


@dataclass(frozen=True)
class Share:
    """What a job reserves on a node; ``gpus`` below 1 is a share of one GPU."""

    cpus: float
    gpus: float


def share_of_gpu(peak_bytes: int, gpu_bytes: int) -> float:
    """The fraction of a GPU for a measured peak, rounded up to a hundredth, at most 1."""
    needed = (peak_bytes * HEADROOM + CONTEXT_BYTES) / gpu_bytes
    return min(1.0, math.ceil(needed * 100) / 100)


class RayCluster:
    """An executor over a running or new Ray cluster.

    Args:
        place: the same paths on all nodes.
        log: the file for what a job prints.
        estimates: measurements that decide a job's fraction of a GPU.
        address: of a running cluster, "auto" for the one of this machine; None starts one here.
        cpus: that a job reserves, and its number of threads.
        gpus: that a job reserves; None: measured, and a whole one (if the cluster has any) for the
            first job of its kind, while the others of that kind wait for its measurement.
        retries: how often a job is started again after its node died.

    Raises:
        UsageError: Ray is not installed, the cluster is not there, or has too little for a job.
    """

    def __init__(
        self,
        place: Workspace,
        log: Callable[[Job], Path],
        estimates: Estimates,
        address: str | None = None,
        cpus: float = 1,
        gpus: float | None = None,
        retries: int = 3,
    ) -> None:
        self._ray = connect(address, place.root)
        self._place, self._log, self._estimates = place, log, estimates
        self._cpus, self._gpus, self._retries = cpus, gpus, retries
        self._running: dict[Any, Chain] = {}
        self._pilots: set[tuple[str, str, bool]] = set()  # kinds whose first job runs unmeasured
        self._task = self._ray.remote(_remote_attempt)
        found = self._ray.cluster_resources()
        self._has_gpu = found.get("GPU", 0) > 0
        self.about = (
            f"Ray cluster of {sum(node['Alive'] for node in self._ray.nodes())} nodes: "
            f"{found.get('CPU', 0):g} CPUs, {found.get('GPU', 0):g} GPUs"
        )
        largest = max(node["Resources"].get("CPU", 0) for node in self._ray.nodes())
        if cpus > largest:
            raise UsageError(
                f"--cpus is {cpus:g}, the largest node of the cluster has {largest:g}: give at "
                "most that"
            )
        if gpus and not self._has_gpu:
            raise UsageError(f"--gpus is {gpus:g}, but no node of the cluster has a GPU: leave it")

    @property
    def running(self) -> int:
        return len(self._running)

    def has_room(self, job: Job) -> bool:
        """Ray queues jobs itself; only those wait whose kind is about to be measured."""
        return self._gpus is not None or not self._has_gpu or _kind(job) not in self._pilots

    def start(self, chain: Chain) -> None:
        job = chain.job
        share = self._share(job)
        task = self._task.options(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_retries=self._retries,
            name=job.name,
        )
        self._running[task.remote(job, self._place, self._log(job), share.cpus)] = chain

    def wait(self, seconds: float) -> Iterable[tuple[Chain, Result]]:
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [self._result(reference) for reference in ready]

    def stop(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=False)
        self._ray.wait(list(self._running), num_returns=len(self._running), timeout=30)
        self._ray.shutdown()

    def _result(self, reference: Any) -> tuple[Chain, Result]:
        chain = self._running.pop(reference)
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:  # its nodes died more often than allowed
            reason = str(error).strip().splitlines()[-1]
            result = Result(chain.job, FAILED, reason=f"{chain.job.name}: Ray gave up: {reason}")
        else:
            # The chain keeps its own Job objects: what came back is a copy.
            result = replace(result, job=chain.job)
        self._pilots.discard(_kind(chain.job))
        return chain, result

    def _share(self, job: Job) -> Share:
        if self._gpus is not None or not self._has_gpu:
            return Share(self._cpus, self._gpus or 0)
        measured = self._estimates.of(job)
        if measured is None or measured.cuda_bytes is None:
            self._pilots.add(_kind(job))
            return Share(self._cpus, 1)
        return Share(self._cpus, share_of_gpu(measured.cuda_bytes, smallest_gpu()))


def _kind(job: Job) -> tuple[str, str, bool]:
    return (job.trainer, job.config, job.eval_only)


def smallest_gpu() -> int:
    """Bytes of this machine's smallest GPU; shares are planned with it for all nodes."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "this machine has no GPU to plan shares with: say what a job takes, such as --gpus 0.5"
        )
    devices = range(torch.cuda.device_count())
    return min(torch.cuda.get_device_properties(device).total_memory for device in devices)


def connect(address: str | None, root: Path) -> Any:
    """The ray module, connected.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at ``address``.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--ray needs Ray, which is not installed: pip install -r requirements-sweep.txt"
        ) from error
    try:
        if address is not None and address != "auto":
            _check_reachable(address)
        ray.init(
            address=address,
            runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
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
    """Raise OSError or ValueError if nobody listens; Ray itself finds out after minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("an address is HOST:PORT, or auto")
    with socket.create_connection((host, int(port)), timeout=5):
        pass


def _remote_attempt(job: Job, place: Workspace, log: Path, cpus: float) -> Result:
    """What a task does. Ray has set CUDA_VISIBLE_DEVICES for it."""
    import ray

    threads = str(max(1, int(cpus)))
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return attempt(job, place, log, env, task=ray.get_runtime_context().get_task_id())
