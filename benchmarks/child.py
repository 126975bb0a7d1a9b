"""Measure peak memory, or the time from process start to the end of the first step.

    python -m benchmarks.child memory FOLDER fast CoOp 1000 4 [--cuda] [--toy]
    python -m benchmarks.child startup FOLDER fast CoOp 100 4

Each measurement runs in a separate process and prints one JSON line. FOLDER must exist; it keeps
weights and images for further calls.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from .rows import naive_step, pair
from .world import SIZES, TOY, World

__all__ = ["measure"]


def measure(world: World, task: str, kind: str, name: str, classes: int, batch: int) -> Any:
    """Run this module in a new process and return its JSON output."""
    command = [sys.executable, "-m", "benchmarks.child", task, str(world.folder), kind, name]
    command += [str(classes), str(batch), "--threads", str(torch.get_num_threads())]
    command += ["--cuda"] * world.cuda + ["--toy"] * (world.sizes is TOY)
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _status(key: str) -> int:
    """Return the peak (VmHWM) or current (VmRSS) memory of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def _peak(step: Any, cuda: bool) -> int:
    """Return the peak memory of ``step`` in bytes, beyond the memory in use before it."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    reset = Path("/proc/self/clear_refs")
    if reset.exists():  # building the model may need more memory than a step
        reset.write_text("5")
        before = _status("VmRSS")
        step()
        return _status("VmHWM") - before
    high = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - high)


def _process_age() -> float:
    """Return the seconds since this process started."""
    ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("memory", "startup"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind", choices=("naive", "fast"))
    parser.add_argument("name")
    parser.add_argument("classes", type=int)
    parser.add_argument("batch", type=int)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    world = World(args.folder, TOY if args.toy else SIZES, args.cuda)
    sizes = args.name, args.classes, args.batch
    if args.kind == "fast" and args.task == "startup":  # without the naive copy
        trainer, slow = world.trainer(*sizes), None
    else:
        trainer, slow = pair(world, *sizes)
    built = time.perf_counter()
    data = world.batch(args.batch, args.classes)

    def step() -> None:
        if slow is not None and args.kind == "naive":
            naive_step(trainer, slow, data)
        else:
            trainer.forward_backward(data)

    if args.task == "memory":
        print(json.dumps({"bytes": _peak(step, args.cuda)}))
        return
    step()
    if args.cuda:
        torch.cuda.synchronize()
    print(json.dumps({"seconds": _process_age(), "step": time.perf_counter() - built}))


if __name__ == "__main__":
    main()
