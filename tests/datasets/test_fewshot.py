"""Few-shot samples match the original's in images and order, and are cached."""

from __future__ import annotations

import json
import pickle
import random
import re
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock

import datasets  # noqa: F401  (registers the datasets)
from dassl.data.datasets import Datum, build_dataset
from dassl.utils import UsageError, set_random_seed
from datasets import cache
from datasets.base import few_images
from tests.toy_data import data_config

GOLDEN = json.loads((Path(__file__).parents[1] / "data/fewshot.json").read_text())
CASES = [
    (classes, shots, seed)
    for classes, by_shots in GOLDEN["samples"].items()
    for shots, by_seed in by_shots.items()
    for seed in by_seed
]


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory):
    """Write the golden split as OxfordPets, with empty image files."""
    root = tmp_path_factory.mktemp("golden")
    folder = root / "oxford_pets"
    for entries in GOLDEN["split"].values():
        for path, _, _ in entries:
            (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / path).touch()
    (folder / "split_zhou_OxfordPets.json").write_text(json.dumps(GOLDEN["split"]))
    return root


@pytest.fixture
def root(golden_root):
    shutil.rmtree(golden_root / "oxford_pets/split_fewshot", ignore_errors=True)
    return golden_root


def config(root, classes="all", shots=4, seed=1):
    options = {"DATASET.SUBSAMPLE_CLASSES": classes, "DATASET.NUM_SHOTS": int(shots)}
    return data_config(root, "OxfordPets", {**options, "SEED": int(seed)})


def listed(items, root):
    folder = root / "oxford_pets/images"
    return [[str(Path(item.impath).relative_to(folder)), item.label] for item in items]


def test_the_golden_file_contains_every_kind_of_sample():
    assert {case[0] for case in CASES} == {"base", "new", "all"}
    assert len(CASES) == 12


@pytest.mark.parametrize(("classes", "shots", "seed"), CASES)
def test_draw_matches_the_original(classes, shots, seed, root):
    set_random_seed(int(seed))
    expected = GOLDEN["samples"][classes][shots][seed]
    drawn = build_dataset(config(root, classes, shots, seed))
    assert listed(drawn.train_x, root) == expected["train"]
    assert listed(drawn.val, root) == expected["val"]
    cached = build_dataset(config(root, classes, shots, seed))
    assert listed(cached.train_x, root) == expected["train"]
    assert listed(cached.val, root) == expected["val"]


def test_draw_depends_only_on_the_seed_and_keeps_the_generator_state(root):
    random.seed(99)
    expected_next = random.Random(99).random()
    drawn = build_dataset(config(root))
    assert random.random() == expected_next
    assert listed(drawn.train_x, root) == GOLDEN["samples"]["all"]["4"]["1"]["train"]


def test_negative_seed_draws_from_the_global_generator(root):
    for seed in ("1", "2"):
        random.seed(int(seed))
        drawn = build_dataset(config(root, seed=-1))
        assert listed(drawn.train_x, root) == GOLDEN["samples"]["all"]["4"][seed]["train"]
    assert not (root / "oxford_pets/split_fewshot").exists()


@pytest.mark.parametrize("shots", [0, -1])
def test_fewer_than_one_shot_means_all_images(shots, root):
    dataset = build_dataset(config(root, shots=shots))
    assert len(dataset.train_x) == len(GOLDEN["split"]["train"])
    assert not (root / "oxford_pets/split_fewshot").exists()


def test_log_counts_classes_with_too_few_images(root, capsys):
    build_dataset(config(root, shots=16))
    assert "Creating a 16-shot dataset (1 of 10 classes have fewer images: all kept)" in (
        capsys.readouterr().out
    )


def cache_path(root, shots=4, seed=1):
    return root / f"oxford_pets/split_fewshot/shot_{shots}-seed_{seed}.pkl"


def write_cache(root, parts):
    cache_path(root).parent.mkdir(exist_ok=True)
    cache_path(root).write_bytes(pickle.dumps(parts, protocol=pickle.HIGHEST_PROTOCOL))


def items_of(part, folder, shots=4):
    """Return the first ``shots`` images of each class, below ``folder``."""
    kept, counts = [], Counter()
    for path, label, name in GOLDEN["split"][part]:
        counts[label] += 1
        if counts[label] <= shots:
            kept.append(Datum(f"{folder}/{path}", label, 0, name))
    return kept


def test_pickle_has_the_original_format(root):
    drawn = build_dataset(config(root))
    content = pickle.loads(cache_path(root).read_bytes())
    assert set(content) == {"train", "val"}
    first = content["train"][0]
    assert type(first).__module__ == "dassl.data.datasets.base_dataset"
    assert vars(first) == {
        "_impath": drawn.train_x[0].impath,
        "_label": drawn.train_x[0].label,
        "_domain": 0,
        "_classname": drawn.train_x[0].classname,
    }


def test_an_existing_pickle_is_used(root, capsys):
    folder = root / "oxford_pets/images"
    train, val = items_of("train", folder)[::-1], items_of("val", folder)
    write_cache(root, {"train": train, "val": val})
    dataset = build_dataset(config(root))
    assert [item.impath for item in dataset.train_x] == [item.impath for item in train]
    assert [item.impath for item in dataset.val] == [item.impath for item in val]
    log = capsys.readouterr().out
    assert f"Loading preprocessed few-shot data from {cache_path(root)}" in log
    assert "moved" not in log


@pytest.mark.parametrize("old", ["/gone/data/oxford_pets/images", "D:\\data\\oxford_pets\\images"])
def test_a_moved_data_folder_is_detected(old, root, capsys):
    train, val = items_of("train", old), items_of("val", old)
    write_cache(root, {"train": train, "val": val})
    dataset = build_dataset(config(root))
    expected = [item.impath for item in items_of("train", root / "oxford_pets/images")]
    assert [item.impath for item in dataset.train_x] == expected
    assert f"The data folder has moved since that file was written: {old}" in (
        capsys.readouterr().out
    )


def test_pickle_of_another_split_raises(root):
    strange = [Datum("/data/oxford_pets/images/face/other.png", 5, 0, "face")]
    folder = root / "oxford_pets/images"
    write_cache(root, {"train": strange, "val": items_of("val", folder)})
    with pytest.raises(UsageError, match=r"face/other.png is not among the images.*delete it"):
        build_dataset(config(root))


def test_pickle_with_other_labels_raises(root):
    folder = root / "oxford_pets/images"
    train = items_of("train", folder)
    train[0] = Datum(train[0].impath, train[0].label + 1, 0, train[0].classname)
    write_cache(root, {"train": train, "val": items_of("val", folder)})
    with pytest.raises(UsageError, match=r"has label 6 there, 5 here"):
        build_dataset(config(root))


def test_pickle_without_validation_images_raises(root):
    write_cache(root, {"train": items_of("train", root / "oxford_pets/images")})
    with pytest.raises(UsageError, match=r"does not fit the split.*names no images"):
        build_dataset(config(root))


def refused(root, train, val=None, shots=4):
    """Return the sentence with which a pickle of these images is refused."""
    write_cache(root, {"train": train, "val": val or items_of("val", root / "oxford_pets/images")})
    with pytest.raises(UsageError, match=r"does not fit the split.*delete it to sample") as error:
        build_dataset(config(root, shots=shots))
    return str(error.value)


def test_pickle_must_contain_every_class(root):
    train = items_of("train", root / "oxford_pets/images")
    name = train[-1].classname
    last = [item for item in train if item.classname == name]
    text = refused(root, train[: -len(last)])
    assert f"it has 0 images of class {name!r} instead of {len(last)}" in text


@pytest.mark.parametrize("shots", [3, 5])
def test_pickle_must_contain_the_number_of_shots(shots, root):
    text = refused(root, items_of("train", root / "oxford_pets/images", shots))
    assert re.search(rf"it has {shots} images of class '\w+' instead of [34]\)", text)


def test_pickle_must_contain_validation_images_of_every_class(root):
    folder = root / "oxford_pets/images"
    text = refused(root, items_of("train", folder), items_of("val", folder)[:-1])
    assert "instead of 4" in text


def test_pickle_with_an_image_twice_raises(root):
    train = items_of("train", root / "oxford_pets/images")
    assert f"it names {train[0].impath} more than once" in refused(root, [train[0], *train[:-1]])


def test_class_with_few_images_keeps_all_of_them(root):
    build_dataset(config(root, shots=16))
    again = build_dataset(config(root, shots=16))
    counts = Counter(item.label for item in again.train_x)
    assert len(set(counts.values())) == 2


def test_classes_with_few_images_are_named(root, capsys):
    dataset = build_dataset(config(root, shots=16))
    counts = Counter(item.label for item in dataset.train_x)
    (label,) = [label for label, count in counts.items() if count < 16]
    warning = (
        "DATASET.NUM_SHOTS is 16, but 1 of 10 classes have fewer training images, which are all "
        f"used: {dataset.lab2cname[label]} {counts[label]}"
    )
    assert dataset.warnings == [warning]
    assert f"warning: {warning}\n" in capsys.readouterr().out
    assert build_dataset(config(root, shots=16)).warnings == [warning]  # from the pickle
    other = "new" if label < 5 else "base"
    assert build_dataset(config(root, other, shots=16)).warnings == []
    assert build_dataset(config(root, shots=counts[label])).warnings == []


def test_more_shots_than_any_class_has(root):
    dataset = build_dataset(config(root, shots=1000))
    assert len(dataset.train_x) == len(GOLDEN["split"]["train"])
    assert "10 of 10 classes have fewer training images" in dataset.warnings[0]
    assert len(build_dataset(config(root, shots=1000)).train_x) == len(dataset.train_x)


def test_a_warning_names_ten_classes_at_most():
    images = [Datum(f"{i}.jpg", i, 0, f"name {i}") for i in range(12)]
    assert few_images(images, 2).endswith("name 8 1, name 9 1 and 2 more")
    assert few_images(images, 1) == ""


MEMO_BOMB = b"\x80\x02" + pickle.EMPTY_DICT + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (MEMO_BOMB, "memo index 2,147,483,647 is larger than the file"),
        (b"}p2147483647\n.", "memo index 2,147,483,647 is larger"),
        (pickle.BYTEARRAY8 + (2**40).to_bytes(8, "little") + b".", "its end is missing"),
        (pickle.BINBYTES8 + (2**40).to_bytes(8, "little") + b".", "its end is missing"),
        (pickle.FRAME + (2**40).to_bytes(8, "little") + b".", "its end is missing"),
        (pickle.LONG4 + b"\xff\xff\xff\xff.", "negative size"),
        (b"}" + b")" + b"\x85" * 500_000 + b"K\x01s.", "thousands of tuples"),
        (b"\x8f" * 100_000 + b".", "thousands of tuples or sets"),
        (b"\xff.", "byte 0 is not a pickle's"),
        (b"}" * 2**22, "bytes, too many for"),
        (b"I" + b"9" * 5000 + b"\n.", "is broken"),
        (b"]" * 400_000 + b"a" * 399_999 + b".", "has no image lists"),
    ],
)
def test_pickles_that_take_memory_are_refused_before_loading(content, words, root, monkeypatch):
    cache_path(root).parent.mkdir(exist_ok=True)
    cache_path(root).write_bytes(content)
    if words not in ("is broken", "has no image lists"):
        monkeypatch.setattr(cache._DatumUnpickler, "load", lambda self: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=rf"shot_4-seed_1.pkl.*{words}.*delete it"):
        build_dataset(config(root))


def test_pickle_cannot_change_datum(root):
    state = b"N}X\x05\x00\x00\x00labelK\x03s\x86b"  # setattr(Datum, "label", 3)
    content = b"\x80\x02cdassl.data.datasets.base_dataset\nDatum\n" + state + b"."
    cache_path(root).parent.mkdir(exist_ok=True)
    cache_path(root).write_bytes(content)
    before = vars(Datum)["label"]
    with pytest.raises(UsageError, match=r"no image lists"):
        build_dataset(config(root))
    assert vars(Datum)["label"] is before


def test_labels_must_be_integers(root):
    train = items_of("train", root / "oxford_pets/images")
    train[0]._label = True
    write_cache(root, {"train": train})
    with pytest.raises(UsageError, match=r"no image lists"):
        build_dataset(config(root))


def test_a_second_process_waits_for_the_sample(root, capfd):
    lock = FileLock(root / "oxford_pets/split_fewshot/sampling.lock")
    cache_path(root).parent.mkdir()
    folder = root / "oxford_pets/images"
    train, val = items_of("train", folder)[::-1], items_of("val", folder)
    with lock:
        waiting = threading.Thread(target=lambda: results.append(build_dataset(config(root))))
        results: list = []
        waiting.start()
        out = ""
        while "Waiting for another process, which samples few-shot images" not in out:
            out += capfd.readouterr().out
        write_cache(root, {"train": train, "val": val})
    waiting.join()
    assert [item.impath for item in results[0].train_x] == [item.impath for item in train]


def test_temporaries_of_dead_processes_are_removed(root):
    folder = cache_path(root).parent
    folder.mkdir()
    (folder / ".shot_4-seed_1-99.tmp.pkl").write_bytes(b"half")
    build_dataset(config(root))
    assert {path.name for path in folder.iterdir()} == {"sampling.lock", "shot_4-seed_1.pkl"}


class Malicious:
    """An object that calls a function when it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


def test_pickles_with_other_classes_raise(root, tmp_path):
    trace = tmp_path / "was_run"
    write_cache(root, {"train": [Malicious(trace)], "val": []})
    with pytest.raises(UsageError, match=r"refused to load .*shot_4-seed_1.pkl: it names pathlib"):
        build_dataset(config(root))
    assert not trace.exists()


def test_global_of_the_datum_module_raises(root):
    cache_path(root).parent.mkdir(exist_ok=True)
    cache_path(root).write_bytes(b"cdassl.data.datasets.base_dataset\nrandom.seed\n.")
    with pytest.raises(UsageError, match=r"names dassl.data.datasets.base_dataset.random.seed"):
        build_dataset(config(root))


@pytest.mark.parametrize("content", [b"", b"\x80\x05}", pickle.dumps({"train": ["a.jpg"]})])
def test_broken_pickles_raise_a_clear_error(content, root):
    cache_path(root).parent.mkdir(exist_ok=True)
    cache_path(root).write_bytes(content)
    with pytest.raises(
        UsageError, match=r"shot_4-seed_1.pkl (is broken|has no image lists).*delete it"
    ):
        build_dataset(config(root))


def test_unwritable_folder_is_reported(root, capsys):
    (root / "oxford_pets/split_fewshot").write_text("a file where the folder should be")
    try:
        dataset = build_dataset(config(root))
    finally:
        (root / "oxford_pets/split_fewshot").unlink()
    assert listed(dataset.train_x, root) == GOLDEN["samples"]["all"]["4"]["1"]["train"]
    assert "was not saved: the data folder is not writable" in capsys.readouterr().out
