"""Estimate the time and memory of a job from finished jobs like it.

estimates = Estimates(workspace)
estimates.line(job)     # 'estimate: about 3 min, 1.2 GiB of memory, as in output/...'
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dassl.engine.run_records import find_run_records, is_finished, read_result, read_run_record
from scripts.runner.job import Chain, Job, Workspace

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
    the same dataset, else the largest, since classes cost time and memory.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._found: dict[tuple[str, str, bool], dict[str, Measurement]] = {}
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
        if measured is None:
            return f"estimate: none, no job like it has finished below {self._workspace.output}"
        return f"estimate: about {', '.join(_parts(measured))}, as in {measured.folder}"


def show_estimates(chains: Sequence[Chain], workspace: Workspace) -> None:
    """Print each job with the time and memory that it is expected to take."""
    estimates = Estimates(workspace)
    for chain in chains:
        for job in chain:
            print(f"{job.name}\n  {estimates.line(job)}")


def _parts(measured: Measurement) -> Iterator[str]:
    minutes = measured.seconds / 60
    yield f"{minutes:.0f} min" if minutes >= 2 else f"{measured.seconds:.0f} s"
    if measured.cuda_bytes is not None:
        yield f"{measured.cuda_bytes / GIB:.1f} GiB on the GPU"
    yield f"{measured.host_bytes / GIB:.1f} GiB of memory"
