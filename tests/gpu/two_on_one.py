"""Train in two processes on one device:

    python tests/gpu/two_on_one.py WORLD OUTPUT DEVICE

WORLD is the folder of a ToyWorld; OUTPUT/<case>.pt is written with the results of
tests/trainers/parallel_runs.py. NCCL does not allow two processes on one GPU, so gloo is used.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.trainers.parallel_runs import CASES, Case, free_port, run
from tests.trainers.toy_runs import ToyWorld

NAMES = ("TextRefinerCoOp", "TextRefinerPromptKD")


def case_on(name: str, device: str) -> Case:
    """Return a case of parallel_runs on a device."""
    return CASES[name]._replace(opts=("USE_CUDA", device == "cuda"))


def work(rank: int, port: int, folder: Path, output: Path, device: str) -> None:
    """Run the cases in one of the two processes."""
    dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
    for name in NAMES:
        found = run(ToyWorld(folder), case_on(name, device), output / name)
        if rank == 0:
            torch.save(found, output / f"{name}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = (free_port(), Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    # Spawned, since CUDA cannot be used after a fork.
    torch.multiprocessing.start_processes(work, arguments, 2, start_method="spawn")
