"""Array store: entries are found by their facts, written atomically and checked when read."""

import multiprocessing
import os
import shutil
import sys
import time

import pytest
import torch
from safetensors import safe_open

from trainers.feature_store.array_store import ArrayStore, readable
from trainers.settings import SettingsError

FACTS = {"what": "image", "weights": "a", "times": "1"}
COUNT = 10


def parts(seed=0, dtype=torch.float32, sizes=(4, 4, 2)):
    """Return rows in parts: pooled (n, 3) of ``dtype`` and saliency (n, 5) in float32."""
    generator = torch.Generator().manual_seed(seed)
    for size in sizes:
        yield {
            "pooled": torch.randn(size, 3, generator=generator).to(dtype),
            "saliency": torch.rand(size, 5, generator=generator),
        }


def whole(**options):
    rows = list(parts(**options))
    return {name: torch.cat([part[name] for part in rows]) for name in rows[0]}


def never():
    raise AssertionError("computed although it is stored")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def files(store):
    """Return the file names in the folder, except locks."""
    return [name for name in os.listdir(store.folder) if not name.endswith(".lock")]


@pytest.fixture
def store(tmp_path):
    return ArrayStore(str(tmp_path / "store"), "A.KEY")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_stored_arrays_are_read_back(store, dtype):
    computed = store.get(FACTS, COUNT, lambda: parts(dtype=dtype))
    again = store.get(FACTS, COUNT, never)
    assert same(computed, whole(dtype=dtype))
    assert same(again, computed)
    assert again["pooled"].dtype == dtype


def test_an_entry_is_a_safetensors_file(store):
    store.get(FACTS, COUNT, lambda: parts(dtype=torch.float16))
    with safe_open(store.path(FACTS), "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    assert same(found, whole(dtype=torch.float16))


def test_only_entries_remain_in_the_folder(store):
    store.get(FACTS, COUNT, parts)
    assert os.listdir(store.folder) == [store.path(FACTS).name]


@pytest.mark.parametrize("changed", [{"weights": "b"}, {"times": "2"}, {"what": "token"}])
def test_other_facts_are_another_entry(store, changed):
    store.get(FACTS, COUNT, parts)
    other = store.get({**FACTS, **changed}, COUNT, lambda: parts(seed=1))
    assert same(other, whole(seed=1))
    assert same(store.get(FACTS, COUNT, never), whole())


def test_outdated_entry_is_named(store, capsys):
    store.get(FACTS, COUNT, parts)
    store.get({**FACTS, "weights": "b"}, COUNT, parts)
    assert "is outdated" not in capsys.readouterr().out
    store.get({**FACTS, "times": "2"}, COUNT, parts)
    assert f"{store.path(FACTS)} is outdated: image files have changed" in capsys.readouterr().out


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip_a_bit_at_the_end(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def flip_a_bit_of_the_first_array(path):
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start] ^= 1
    path.write_bytes(content)


def change_a_shape(path):
    path.write_bytes(path.read_bytes().replace(b'"shape": [10, 3]', b'"shape": [15, 2]'))


def put_text_there(path):
    path.write_text("no header at all")


def empty(path):
    path.write_bytes(b"")


def leave_the_header_only(path):
    path.write_bytes(path.read_bytes()[:64])


def change_the_facts(path):
    path.write_bytes(
        path.read_bytes().replace(b'\\"weights\\": \\"a\\"', b'\\"weights\\": \\"b\\"')
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "it cannot be read"),
        (flip_a_bit_at_the_end, "checksum of its saliency array"),
        (flip_a_bit_of_the_first_array, "checksum of its pooled array"),
        (change_a_shape, "checksum of its pooled array"),
        (put_text_there, "it cannot be read"),
        (empty, "it cannot be read"),
        (leave_the_header_only, "it cannot be read"),
        (change_the_facts, "header contains other facts"),
    ],
)
def test_damaged_entry_is_reported_and_recomputed(store, damage, message, capsys):
    store.get(FACTS, COUNT, parts)
    before = store.path(FACTS).read_bytes()
    damage(store.path(FACTS))
    assert store.path(FACTS).read_bytes() != before, "the test damages nothing"
    assert same(store.get(FACTS, COUNT, parts), whole())
    out = capsys.readouterr().out
    assert f"{store.path(FACTS)} is damaged" in out
    assert message in out
    assert store.path(FACTS).read_bytes() == before
    store.get(FACTS, COUNT, never)


def test_interrupted_computation_leaves_no_files(store):
    def interrupted():
        yield next(parts())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get(FACTS, COUNT, interrupted)
    assert files(store) == []


@pytest.mark.parametrize("sizes", [(4, 4), (4, 4, 4)])
def test_wrong_number_of_rows_raises(store, sizes):
    with pytest.raises(ValueError, match="than the 10 rows of"):
        store.get(FACTS, COUNT, lambda: parts(sizes=sizes))
    assert files(store) == []


def test_too_little_disk_space_is_reported_in_one_sentence(store, monkeypatch, capsys):
    usage = shutil.disk_usage(".")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SettingsError, match=r"A\.KEY .*store has 100 B free.*choose another"):
        store.get(FACTS, COUNT, parts)
    assert "10 image features need" in capsys.readouterr().out
    assert files(store) == []


def test_unusable_folder_is_reported_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="file"):
        ArrayStore(str(tmp_path / "file"), "A.KEY").get(FACTS, COUNT, parts)


def fill(folder, record, entered, go):
    """Compute one entry slowly and record it; runs in another process."""

    def compute():
        entered.set()
        go.wait(20)
        with open(record, "a") as file:
            file.write(f"{os.getpid()}\n")
        yield from parts()

    sys.stdout.reconfigure(line_buffering=True)
    found = ArrayStore(folder, "A.KEY").get(FACTS, COUNT, compute)
    assert same(found, whole())


def test_two_processes_compute_an_entry_once_and_the_second_logs_that_it_waits(
    store, tmp_path, capfd
):
    context = multiprocessing.get_context("fork")
    entered, go = context.Event(), context.Event()
    record = tmp_path / "record"
    arguments = (str(store.folder), str(record), entered, go)
    workers = [context.Process(target=fill, args=arguments) for _ in range(2)]
    workers[0].start()
    assert entered.wait(20)
    workers[1].start()
    out, end = "", time.monotonic() + 20
    while "waiting for another process" not in out and time.monotonic() < end:
        time.sleep(0.05)
        out += capfd.readouterr().out
    assert f"waiting for another process that computes {store.path(FACTS)}" in out
    go.set()
    for worker in workers:
        worker.join(20)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(record.read_text().splitlines()) == 1
    assert os.listdir(store.folder) == [store.path(FACTS).name]


def die(folder):
    """Exit during a computation; runs in another process."""

    def compute():
        yield next(parts())
        os._exit(1)

    ArrayStore(folder, "A.KEY").get(FACTS, COUNT, compute)


def test_files_of_a_killed_process_are_removed(store):
    worker = multiprocessing.get_context("fork").Process(target=die, args=(str(store.folder),))
    worker.start()
    worker.join(20)
    assert worker.exitcode == 1
    assert len(os.listdir(store.folder)) == 2  # its lock and the incomplete file
    assert same(store.get(FACTS, COUNT, parts), whole())
    assert os.listdir(store.folder) == [store.path(FACTS).name]


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (1000, "1.0 kB"), (645.5e6, "645.5 MB"), (2e12, "2.0 TB")]
)
def test_readable(size, text):
    assert readable(size) == text
