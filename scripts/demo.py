"""The demo behind `make demo`: zero-shot CLIP, CoOp and CoOp + TextRefiner, base to new classes.

    python scripts/demo.py                      # on a CPU, at most five minutes on two cores
    OUTPUT=/tmp/out python scripts/demo.py

Trains and tests on the embedded data set (Critters, drawn into $DATA, default data/) with the
embedded CLIP, three seeds, through the same runner as every script; results, logs and checkpoints
go to $OUTPUT/demo (default output/demo). Run again, it skips what is finished.
"""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Event, Lock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dassl.utils import UsageError  # noqa: E402
from datasets.critters import Critters  # noqa: E402
from datasets.critters_world.folder import prepare_folder  # noqa: E402
from scripts.lib.files import make_folder, write_text  # noqa: E402
from scripts.lib.jobs import Job, Place, Request  # noqa: E402
from scripts.lib.plans import plan  # noqa: E402
from scripts.lib.plots import plot_bars  # noqa: E402
from scripts.lib.render import as_json, markdown  # noqa: E402
from scripts.lib.result import RESULT  # noqa: E402
from scripts.lib.rows import Options  # noqa: E402
from scripts.lib.runner import JobFailedError, run  # noqa: E402
from scripts.lib.runs import Run, read_run  # noqa: E402
from scripts.lib.tables import Table, build  # noqa: E402

SEEDS = (1, 2, 3)
WORKERS = 2
CLASSES = "DATASET.SUBSAMPLE_CLASSES"
TAIL = 15  # lines of a failed job's log that are shown


@dataclass(frozen=True)
class Method:
    """A row of the demo's table."""

    label: str
    method: str
    protocol: str
    seeds: Sequence[int] = SEEDS
    options: Mapping[str, str] = field(default_factory=dict)
    subfolder: str = ""

    def chains(self, place: Place) -> list[list[Job]]:
        """For each seed the jobs that follow one another."""
        place = replace(place, output=place.output / self.subfolder)
        requests = [
            Request(self.method, self.protocol, "critters", seed, self.options)
            for seed in self.seeds
        ]
        chains = [plan(request, place) for request in requests]
        # Not the zero-shot test on all classes: the table is about base and new.
        return [[job for job in chain if CLASSES in job.options] for chain in chains]


METHODS = (
    Method("zero-shot CLIP", "coop", "zeroshot", seeds=(1,)),  # the same for every seed
    Method("CoOp", "coop", "base2new"),
    Method("CoOp + TextRefiner", "textrefiner", "base2new"),
    Method(
        "aggregation only (no cache, no local loss)",
        "textrefiner",
        "base2new",
        options={"TRAINER.TEXTREFINER.CACHE": "False", "TRAINER.TEXTREFINER.LOCAL": "False"},
        subfolder="aggregation_only",
    ),
)


class Progress:
    """Runs jobs and prints a line for each one that is done."""

    def __init__(self, place: Place, labels: Mapping[Path, str]) -> None:
        self.place = place
        self.labels = labels
        self.count = 0
        self.begin = time.monotonic()
        self.stop = Event()
        self.lock = Lock()  # one line at a time
        # One thread a job: two jobs share two cores.
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def run_chain(self, chain: Sequence[Job]) -> None:
        for job in chain:
            if self.stop.is_set():
                return
            path = log_path(job, self.place)
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "a", encoding="utf-8") as log:
                say = partial(print, file=log, flush=True)
                outcome = run(job, self.place, say=say, stream=log, env=self.env)
            self.report(job, "finished before" if outcome.skipped else f"{outcome.seconds:.0f} s")

    def report(self, job: Job, took: str) -> None:
        tested = read_run(job.folder / RESULT)
        elapsed = time.strftime("%M:%S", time.gmtime(time.monotonic() - self.begin))
        with self.lock:
            self.count += 1
            print(
                f"[{self.count:2}/{len(self.labels)}] {elapsed}  {self.labels[job.folder]}, "
                f"{tested.classes} classes, seed {job.seed}: {tested.accuracy:.1f} % ({took})",
                flush=True,
            )


def log_path(job: Job, place: Place) -> Path:
    """What a job prints goes to logs/, named after its folder."""
    name = re.sub(r"[^\w.]+", "_", str(job.folder.relative_to(place.output)))
    return place.output / "logs" / f"{name}.log"


def run_all(chains: Sequence[Sequence[Job]], progress: Progress) -> None:
    """Run the chains, two at a time; the first failure ends the rest."""
    with ThreadPoolExecutor(WORKERS) as pool:
        futures: list[Future[None]] = [pool.submit(progress.run_chain, chain) for chain in chains]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            progress.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def tabulate(labels: Mapping[Path, str]) -> list[Table]:
    """The table of the demo's jobs, whatever their numbers say."""
    runs = [read_run(folder / RESULT) for folder in labels]

    def name(tested: Run) -> str:
        return labels[tested.folder]

    return build(runs, Options(SEEDS, name))


def write(tables: Sequence[Table], folder: Path) -> None:
    write_text(folder / "results.md", markdown(tables, []))
    write_text(folder / "results.json", as_json(tables, []))
    plot_bars(tables, folder / "results.png")


def demo(place: Place) -> None:
    """Draw the data, run the jobs, show and write the table."""
    print(f"Demo on {os.cpu_count()} cores: images in {place.data}, results in {place.output}")
    make_folder(place.data, "DATA")
    make_folder(place.output, "OUTPUT")
    prepare_folder(Critters.plan, place.data / Critters.dataset_dir)
    chains = [(method, chain) for method in METHODS for chain in method.chains(place)]
    labels = {job.folder: method.label for method, chain in chains for job in chain}
    progress = Progress(place, labels)
    run_all([chain for _, chain in chains], progress)
    tables = tabulate(labels)
    write(tables, place.output)
    print("\n" + markdown(tables, []))
    print(f"table  {place.output / 'results.md'} and results.json")
    print(f"plot   {place.output / 'results.png'}")
    print(f"runs   {place.output}: logs/, checkpoints and TensorBoard events in base2new/")


def main(words: Sequence[str], env: Mapping[str, str]) -> int:
    argparse.ArgumentParser(  # it has no options: the environment says all
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(words)
    place = Place(
        ROOT,
        data=Path(env.get("DATA") or ROOT / "data").absolute(),
        output=Path(env.get("OUTPUT") or ROOT / "output").absolute() / "demo",
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        demo(place)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except JobFailedError as error:
        path = log_path(error.job, place)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
        print(f"error: {error.job.name} failed with exit code {error.code}", file=sys.stderr)
        print(f"the last lines of {path}:", file=sys.stderr)
        print("\n".join(f"  {line}" for line in lines), file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
