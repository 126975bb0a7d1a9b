"""Estimate the time and memory of a job, from a finished job like it or else from measured costs.

estimates = Estimates(workspace)
estimates.line(job)     # 'estimate: about 3 min, 1.2 GiB of memory, as in output/...'
estimates.remark()      # how well measured costs predicted the finished jobs
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dassl.engine.run_records import find_run_records, is_finished, read_result, read_run_record
from dassl.utils import UsageError
from scripts.runner.cost_model import Accuracy, CostModel, Work, compare, uses_gpu
from scripts.runner.job import Chain, Job, Workspace
from scripts.runner.job_size import work_of_job, work_of_run

GIB = 2**30


@dataclass(frozen=True)
class Measurement:
    """The resources that a finished job used."""

    seconds: float  # of train.py; of the last part of a resumed job
    host_bytes: int  # peak resident memory of train.py, without the workers of its data loader
    cuda_bytes: int | None  # peak memory that PyTorch reserved on the GPU; None on a CPU
    folder: Path


class Estimates:
    """The measurements below OUTPUT, looked up by jobs.

    Jobs are alike if trainer, config and kind (training or test) agree. An estimate is the one on
    the same dataset, else the largest, since classes cost time and memory. Without any, it is a
    prediction of the cost model.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[tuple[str, str, bool], dict[str, Measurement]] = {}
        self._model = CostModel.load()
        self._cores = os.cpu_count() or 1
        self._times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}  # by GPU or not
        self._predicted: bool | None = None  # the kind of device of the last prediction
        for folder in find_run_records(workspace.output):
            self.add(folder)

    def add(self, folder: Path) -> None:
        """Add the measurements of a finished job if it wrote a result."""
        result = read_result(folder)
        if not is_finished(folder) or "resources" not in result:
            return
        record, resources = read_run_record(folder), result["resources"]
        settings = record["settings"]
        kind = (settings["--trainer"], result["config"], settings["--eval-only"])
        self._found.setdefault(kind, {})[settings["DATASET.NAME"]] = Measurement(
            record["seconds"], resources["host_bytes"], resources["cuda_bytes"], folder
        )
        work = work_of_run(record, result, folder)
        if work is not None and self._model.knows(work.trainer, work.backbone):
            on_gpu = resources["cuda_bytes"] is not None
            predicted = self._model.cpu_seconds(work, self._cores)
            self._times[on_gpu].append((record["seconds"], predicted))

    def of(self, job: Job) -> Measurement | None:
        """Return the measurement of the job most like ``job``."""
        found = self._found.get((job.trainer, Path(job.config).name, job.eval_only), {})
        dataset = self._workspace.dataset_class(job.dataset)
        if dataset in found:
            return found[dataset]
        return max(found.values(), key=lambda m: (m.cuda_bytes or 0, m.host_bytes), default=None)

    def line(self, job: Job) -> str:
        """Return one line for the screen."""
        measured = self.of(job)
        if measured is not None:
            return f"estimate: about {', '.join(_parts(measured))}, as in {measured.folder}"
        none = f"estimate: none, no job like it has finished below {self._workspace.output}"
        settings = job.settings(self._workspace)
        backbone = settings.get("MODEL.BACKBONE.NAME", "")
        if not self._model.knows(job.trainer, backbone):
            return f"{none}, and costs of {job.trainer} with backbone {backbone!r} are not known"
        try:
            work = work_of_job(job, self._workspace)
        except UsageError as error:  # of an own folder; the job itself will stop at it
            return f"{none}, and its images cannot be counted ({error})"
        return f"estimate: {self._predict(work, settings)}, by the cost model"

    def _predict(self, work: Work, settings: Mapping[str, Any]) -> str:
        gpu = uses_gpu(settings)
        self._predicted = gpu
        cost = self._model.predict(work, gpu, self._cores)
        seconds, accuracy = cost.seconds, self._accuracy(gpu)
        if accuracy is not None:
            seconds = self._model.cpu_seconds(work, self._cores) * accuracy.factor
        memory = f"{cost.bytes / GIB:.1f} GiB {'on the GPU' if gpu else 'of memory'}"
        if seconds is None:
            return f"about {memory}, time not known (no run on a GPU has finished)"
        return f"about {_time(seconds)}, {memory}"

    def _accuracy(self, gpu: bool) -> Accuracy | None:
        return compare(self._times[gpu])

    def remark(self) -> str:
        """Return the origin and the error of the cost model; "" if no line was predicted by it."""
        if self._predicted is None:
            return ""
        accuracy = self._accuracy(self._predicted)
        known = accuracy or f"no comparable run has finished below {self._workspace.output}"
        device = "a GPU" if self._predicted else f"{self._cores} cores"
        return f"cost model: ViT-B/16 measured on 2 cores, scaled to {device}; {known}"


def show_estimates(chains: Sequence[Chain], workspace: Workspace, prefix: str = "") -> None:
    """Print each job with the time and memory that it is expected to take.

    ``prefix`` begins each line: with "# ", a shell reads the lines as comments.
    """
    estimates = Estimates(workspace)
    for chain in chains:
        for job in chain:
            print(f"{prefix}{job.name}\n{prefix}  {estimates.line(job)}")
    if remark := estimates.remark():
        print(f"{prefix}{remark}")


def _parts(measured: Measurement) -> Iterator[str]:
    yield _time(measured.seconds)
    if measured.cuda_bytes is not None:
        yield f"{measured.cuda_bytes / GIB:.1f} GiB on the GPU"
    yield f"{measured.host_bytes / GIB:.1f} GiB of memory"


def _time(seconds: float) -> str:
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
