"""What the machine does to a run ends it with one sentence and exit code 74, and it can go on."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dassl.utils.failures import MACHINE, describe_failure
from tests.faults.runs import Place, Server, difference
from tests.faults.server import KILLED
from tests.trainers.toy_runs import ToyWorld

CASE = "CoOp last_step"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ToyWorld:
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def expected(world: ToyWorld, server: Server, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return what an undisturbed run leaves."""
    place = Place(world, tmp_path_factory.mktemp("whole") / "run", CASE)
    assert server.run(place)["code"] == 0
    return place.content()


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def a_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("not a folder")


@pytest.mark.parametrize(
    ("name", "make", "codes"),
    [
        ("", a_file, (MACHINE,)),  # OUTPUT_DIR itself
        ("tensorboard", a_file, (MACHINE,)),
        ("prompt_learner", a_file, (MACHINE,)),
        ("Memory", a_file, (MACHINE,)),
        ("Memory/checkpoint", a_folder, (MACHINE,)),
        ("Memory/model.pth.tar-2", a_folder, (MACHINE,)),
        ("checkpoint.json", a_folder, (2, MACHINE)),
        ("run.json", a_folder, (2, MACHINE)),
        ("result.json", a_folder, (MACHINE,)),
        ("result-earlier.json", a_folder, (MACHINE,)),
        ("config.yaml", a_folder, (MACHINE,)),
        ("log.txt", a_folder, (MACHINE,)),
        ("running.lock", a_folder, (MACHINE,)),
    ],
)
def test_file_in_the_place_of_a_folder_and_the_reverse(
    world: ToyWorld,
    server: Server,
    expected: object,
    tmp_path: Path,
    name: str,
    make: Callable[[Path], None],
    codes: tuple[int, ...],
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    path = place.out / name
    make(path)
    result = server.run(place)
    errors = [line for line in result["output"].splitlines() if line.startswith("error: ")]
    assert result["code"] in codes, result["output"][-800:]
    assert "Traceback" not in result["output"]
    assert "epoch [" not in result["output"], "found before the training"
    (error,) = errors
    assert f"'{path}'" in error
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert server.run(place)["code"] == 0
    assert not difference(expected, place.content())


def test_empty_lock_of_a_full_disk_does_not_stop_the_next_run(
    world: ToyWorld, server: Server, expected: object, tmp_path: Path
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    a_file(place.out / "running.lock")
    (place.out / "running.lock").write_text("")
    assert server.run(place)["code"] == 0
    assert not difference(expected, place.content())


def test_folder_without_files_is_no_folder_in_use(
    world: ToyWorld, server: Server, tmp_path: Path
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    place.argv[place.argv.index("--output-dir") + 1] = "/proc"
    result = server.run(place)
    assert result["code"] == MACHINE
    assert "'/proc/running.lock' cannot be used" in result["output"]


def test_killed_run_in_a_folder_that_is_then_removed_starts_again(
    world: ToyWorld, server: Server, expected: object, tmp_path: Path
) -> None:
    place = Place(world, tmp_path / "run", CASE)
    assert server.run(place, at=40)["code"] == KILLED
    shutil.rmtree(place.out)
    assert server.run(place)["code"] == 0
    assert not difference(expected, place.content())


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "not enough memory"),
        (RuntimeError("can't start new thread"), "not enough memory"),
        (RuntimeError("could not create a primitive"), "not enough memory"),
        (ImportError("a.so: failed to map segment from shared object"), "not enough memory"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "NUM_WORKERS"),
        (OSError(28, "No space left on device", b"/out/events"), "'/out/events' cannot be used"),
    ],
)
def test_errors_of_the_machine_are_one_sentence(error: BaseException, part: str) -> None:
    failure = describe_failure(error)
    assert failure is not None
    sentence, code = failure
    assert code == MACHINE
    assert part in sentence


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError(4), ImportError("no module")])
def test_bugs_are_not_errors_of_the_machine(error: BaseException) -> None:
    assert describe_failure(error) is None
