"""How long a job will take and how much memory, from finished jobs like it.

estimates = Estimates(place)
estimates.line(job)     # 'about 3 min and 1.2 GiB, as output/...'
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.runner import record
from scripts.runner.job import Job, Workspace
from scripts.runner.result import RESULT

GIB = 2**30


@dataclass(frozen=True)
class Measurement:
    """What a finished job took.

    Attributes:
        seconds: from the start of train.py to its end; of the last part of a resumed job.
        host_bytes: peak resident memory of train.py, without the workers of its data loader.
        cuda_bytes: peak memory that PyTorch held on the GPU; None on a CPU.
        folder: of the job.
    """

    seconds: float
    host_bytes: int
    cuda_bytes: int | None
    folder: Path


class Estimates:
    """The measurements below the folder of the results, looked up by jobs.

    A job is like another one if trainer, config and kind (training or test) agree; of several the
    one on the same dataset counts, else the largest, since classes cost time and memory.
    """

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._found: dict[tuple[str, str, bool], dict[str, Measurement]] = {}
        for path in sorted(place.output.rglob(record.FINISHED)):
            self.add(path.parent)

    def add(self, folder: Path) -> None:
        """Take in what the finished job in ``folder`` measured, if it wrote a result."""
        finished, result = record.read(folder, record.FINISHED), record.read(folder, RESULT)
        if finished is None or result is None or "resources" not in result:
            return
        settings, resources = finished["settings"], result["resources"]
        kind = (settings["--trainer"], result["config"], settings["--eval-only"])
        self._found.setdefault(kind, {})[settings["DATASET.NAME"]] = Measurement(
            finished["seconds"], resources["host_bytes"], resources["cuda_bytes"], folder
        )

    def of(self, job: Job) -> Measurement | None:
        """The measurement of the job most like ``job``."""
        found = self._found.get((job.trainer, Path(job.config).name, job.eval_only), {})
        dataset = job.settings(self._place)["DATASET.NAME"]
        if dataset in found:
            return found[dataset]
        return max(found.values(), key=lambda m: (m.cuda_bytes or 0, m.host_bytes), default=None)

    def line(self, job: Job) -> str:
        """One line for the screen."""
        measured = self.of(job)
        if measured is None:
            return f"estimate: none, no job like it has finished below {self._place.output}"
        return f"estimate: {describe(measured)}, as in {measured.folder}"


def describe(measured: Measurement) -> str:
    """ "about 3 min, 1.2 GiB on the GPU and 2.0 GiB of memory"."""
    return "about " + ", ".join(_parts(measured))


def _parts(measured: Measurement) -> Iterator[str]:
    minutes = measured.seconds / 60
    yield f"{minutes:.0f} min" if minutes >= 2 else f"{measured.seconds:.0f} s"
    if measured.cuda_bytes is not None:
        yield f"{measured.cuda_bytes / GIB:.1f} GiB on the GPU"
    yield f"{measured.host_bytes / GIB:.1f} GiB of memory"
