"""Disks that are full or read-only, missing rights, lack of memory and killed workers, for real.

Nothing is injected here: file systems are mounted, limits set and processes killed. Each run ends
with one sentence and exit code 74, and the same command continues to the bits and records of an
uninterrupted run.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dassl.utils.failures import MACHINE
from tests.faults.processes import command_line, descendants, kill, start
from tests.faults.runs import Place, Server, difference
from tests.trainers.toy_runs import ToyWorld

NOBODY = 65534  # user id without rights
NAMESPACE = ("unshare", "--mount")
CASE = "CoOp best_val, every epoch"


def can_mount() -> bool:
    """Whether this user can mount file systems that only a process and its children see."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    mount = [*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(mount, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
mounts = pytest.mark.skipif(not can_mount(), reason="mounting needs root")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(*NAMESPACE * can_mount()) as server:
        yield server


@pytest.fixture(scope="module")
def whole(
    world: ToyWorld, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[str], dict[str, Any]]:
    """Return the file operations of an uninterrupted run, and what it leaves."""
    place = Place(world, tmp_path_factory.mktemp("whole") / "run", CASE)
    result = server.run(place)
    assert result["code"] == 0, result["output"][-2000:]
    return result["operations"], place.content()


def check_sentence(result: dict[str, Any], *parts: str) -> None:
    """Check that a command ended with exit code 74 and one sentence that contains ``parts``."""
    output = result["output"]
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in output, output[-2500:]
    assert result["code"] == MACHINE, f"code {result['code']}: {output[-1500:]}"
    assert len(errors) == 1, errors
    for part in parts:
        assert part in errors[0]


def check_continues(server: Server, place: Place, whole: tuple[list[str], dict[str, Any]]) -> None:
    again = server.run(place)
    assert again["code"] == 0, again["output"][-1500:]
    found = difference(whole[1], place.content())
    assert not found, found


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_output_folder_deleted_during_a_run(
    world: ToyWorld,
    server: Server,
    whole: tuple[list[str], dict[str, Any]],
    tmp_path: Path,
    part: float,
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    inside = [at for at, name in enumerate(whole[0], 1) if "/out/" in name]
    at = inside[int(part * len(inside))]
    result = server.run(place, at=at, removed=str(place.out))
    check_sentence(result, f"'{place.out}", "was the folder removed during the run?")
    again = server.run(place)
    assert again["code"] == 0, again["output"][-1500:]
    content = place.content()
    # The checkpoints of the first epoch were deleted; a run that continues from the second one
    # does not write them again.
    expected = {k: v for k, v in whole[1].items() if k in content or not k.endswith(".tar-1")}
    found = difference(expected, content)
    assert not found, found


@mounts
@pytest.mark.parametrize("name", ["out", "out/tensorboard", "data/caltech-101", "store"])
def test_read_only_folder(
    world: ToyWorld,
    server: Server,
    whole: tuple[list[str], dict[str, Any]],
    tmp_path: Path,
    name: str,
) -> None:
    """A folder on a read-only file system; few-shot lists that cannot be kept are drawn again."""
    place = Place(world, tmp_path / "run", CASE)
    if name == "store":
        place.argv += ["DATALOADER.VIEWS", "1", "DATALOADER.FEATURE_STORE", str(tmp_path / "store")]
    folder = tmp_path / name if name == "store" else place.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    server.shell("mount", "--bind", str(folder), str(folder))
    server.shell("mount", "-o", "remount,bind,ro", str(folder))
    result = server.run(place)
    server.shell("umount", str(folder))
    if name.startswith("data") and result["code"] == 0:
        assert not difference(whole[1], place.content())
        return
    check_sentence(result, f"'{folder}", "(read-only file system): choose a folder")
    if name != "store":
        check_continues(server, place, whole)


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read only", "no rights"])
def test_folder_of_another_user(
    world: ToyWorld, server: Server, tmp_path_factory: pytest.TempPathFactory, mode: int
) -> None:
    folder = tmp_path_factory.mktemp("foreign")
    place = Place(world, folder / "run", CASE)
    for parent in [folder, *folder.parents]:
        if parent.stat().st_uid == Path.home().stat().st_uid and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    world.folder.chmod(0o755)
    place.out.mkdir()
    place.out.chmod(mode)
    result = server.run(place, uid=NOBODY)
    place.out.chmod(0o755)
    check_sentence(result, f"'{place.out}", "(permission denied): change its permissions")


@mounts
@pytest.mark.parametrize("kilobytes", [4, 64, 200])
def test_full_disk(
    world: ToyWorld,
    server: Server,
    whole: tuple[list[str], dict[str, Any]],
    tmp_path: Path,
    kilobytes: int,
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    place.out.mkdir()
    size = f"size={kilobytes}k"
    server.shell("mount", "-t", "tmpfs", "-o", size, "none", str(place.out))
    full = server.run(place)
    server.shell("mount", "-o", "remount,size=64m", str(place.out))
    again = server.run(place)
    server.shell("cp", "-a", str(place.out), str(tmp_path / "kept"))
    server.shell("umount", str(place.out))
    check_sentence(full, f"'{place.out}", "(no space left on device): free some space")
    assert again["code"] == 0, again["output"][-1500:]
    place.out = tmp_path / "kept"
    found = difference(whole[1], place.content())
    assert not found, found


def test_too_little_memory(
    world: ToyWorld,
    server: Server,
    whole: tuple[list[str], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """With limits from nothing to enough, a run ends well or with the sentence, never otherwise."""
    failed = 0
    for number, megabytes in enumerate([0, 8, 64]):
        place = Place(world, tmp_path / f"run{number}", CASE)
        result = server.run(place, memory=megabytes << 20)
        if result["code"] != 0:
            failed += 1
            check_sentence(result, "there is not enough memory: lower")
        check_continues(server, place, whole)
    assert failed


def test_unwritable_folder_of_temporary_files(
    world: ToyWorld, server: Server, whole: tuple[list[str], dict[str, Any]], tmp_path: Path
) -> None:
    """A run writes nothing into TMPDIR."""
    place = Place(world, tmp_path / "run", CASE)
    result = server.run(place, env={"TMPDIR": "/proc"})
    assert result["code"] == 0, result["output"][-1500:]
    assert not difference(whole[1], place.content())


def test_killed_worker_of_the_data_loader(world: ToyWorld, server: Server, tmp_path: Path) -> None:
    """One process that loads images is killed; the same command then goes on."""
    place = Place(world, tmp_path / "run", CASE)
    place.argv += ["DATALOADER.NUM_WORKERS", "1", "OPTIM.MAX_EPOCH", "6"]
    log = tmp_path / "console.txt"
    process = start(["train.py", *place.argv], {}, log)
    limit = time.monotonic() + 120
    while not list(place.out.glob("*/model.pth.tar-1")):  # resumed later, not started again
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < limit
        time.sleep(0.01)
    while process.poll() is None:
        workers = [one for one in descendants(process.pid)[1:] if "train.py" in command_line(one)]
        if workers:
            kill(workers[:1])
            break
    code = process.wait(60)
    check_sentence(
        {"code": code, "output": log.read_text()},
        "a process that loads images was killed",
        "lower DATALOADER.NUM_WORKERS",
        "the same command continues",
    )
    again = server.run(place)
    assert again["code"] == 0, again["output"][-1500:]
    assert "epoch [1/6]" not in again["output"]
    assert "epoch [6/6]" in again["output"]
