"""Name suggestions, files, meters, the log and random states."""

import os
import random
import re
import sys
import warnings

import numpy as np
import pytest
import torch

from dassl import utils
from dassl.utils import (
    AverageMeter,
    Logger,
    MetricMeter,
    NonFiniteLossError,
    Registry,
    UsageError,
    atomic_path,
    check_availability,
    check_isfile,
    collect_env_info,
    download_url,
    get_most_similar_str_to_a_from_b,
    get_random_state,
    listdir_nohidden,
    mkdir_if_missing,
    nearest,
    preserved_random_state,
    read_json,
    set_random_seed,
    set_random_state,
    setup_logger,
    tolist_if_not,
    write_json,
)
from dassl.utils.failures import MACHINE, describe_failure


def test_all_names_exist():
    assert all(hasattr(utils, name) for name in utils.__all__)


# names


def test_nearest_ignores_case():
    assert nearest("rn50", ["ViT-B/16", "RN50"]) == "did you mean 'RN50'? allowed: RN50, ViT-B/16"
    assert nearest("zzz", ["b", "a"]) == "allowed: a, b"
    assert nearest("x", []) == "allowed: (none)"


def test_nearest_shortens_long_lists():
    names = [f"vit_b16_c4_ep{i}_batch1_ctxv1" for i in range(54)]
    message = nearest("vit_b16_c4_ep10_batch1_ctx1", names)
    assert message.startswith("did you mean 'vit_b16_c4_ep10_batch1_ctxv1' or ")
    assert message.count(" or ") == 2
    assert message.endswith(", ... (54 in all)")
    assert len(message) < 300


def test_check_availability():
    check_availability("adam", ["adam", "sgd"])
    with pytest.raises(UsageError, match="'adan' is unknown: did you mean 'adam'"):
        check_availability("adan", ["adam", "sgd"])


def test_most_similar():
    assert get_most_similar_str_to_a_from_b("CoOpp", ["CoCoOp", "CoOp"]) == "CoOp"
    assert get_most_similar_str_to_a_from_b("x", []) is None


def test_non_finite_loss_error_is_a_usage_error_and_a_floating_point_error():
    assert issubclass(NonFiniteLossError, UsageError)
    assert issubclass(NonFiniteLossError, FloatingPointError)


def test_registry():
    registry = Registry("TRAINER")

    @registry.register()
    class CoOp: ...

    registry.register(CoOp, name="Alias")
    assert registry.get("CoOp") is registry.get("Alias") is CoOp
    assert registry.registered_names() == ["CoOp", "Alias"]
    with pytest.raises(KeyError, match="already registered"):
        registry.register(CoOp)
    registry.register(dict, name="CoOp", force=True)
    assert registry.get("CoOp") is dict
    with pytest.raises(UsageError, match="no trainer is registered as 'Coop': did you mean 'CoOp'"):
        registry.get("Coop")


# files


def test_atomic_path_is_written_completely_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "file.json"
    with atomic_path(target) as temporary:
        temporary.write_text("1")
        assert not target.exists()
        assert (temporary.parent, temporary.suffix) == (target.parent, ".json")
    assert target.read_text() == "1"

    def fail_half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert target.read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


def test_json_round_trip_and_errors(tmp_path):
    write_json({"train": [["a.jpg", 0, "a"]]}, tmp_path / "sub" / "split.json")
    assert read_json(tmp_path / "sub" / "split.json") == {"train": [["a.jpg", 0, "a"]]}
    with pytest.raises(UsageError, match="no JSON file at"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UsageError, match="is not valid"):
        read_json(tmp_path / "broken.json")


def test_folders_and_lists(tmp_path):
    mkdir_if_missing(tmp_path / "a" / "b")
    mkdir_if_missing(tmp_path / "a" / "b")
    for name in ("z", "y", ".hidden"):
        (tmp_path / "a" / name).touch()
    assert listdir_nohidden(tmp_path / "a", sort=True) == ["b", "y", "z"]
    assert tolist_if_not("x") == ["x"]
    assert tolist_if_not(["x"]) == ["x"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_isfile(tmp_path / "a" / "z")
    with pytest.warns(UserWarning, match="no file at"):
        assert not check_isfile(tmp_path / "nothing")


def test_download_url(tmp_path):
    (tmp_path / "source").write_text("content")
    download_url((tmp_path / "source").as_uri(), tmp_path / "sub" / "copy")
    assert (tmp_path / "sub" / "copy").read_text() == "content"


# meters


def test_average_meter_by_hand():
    meter = AverageMeter()
    assert (meter.val, meter.avg) == (0.0, 0.0)
    meter.update(2.0)
    meter.update(torch.tensor([5.0]), n=2)
    assert (meter.val, meter.sum, meter.count, meter.avg) == (5.0, 12.0, 3, 4.0)
    meter.reset()
    assert meter.count == 0
    moving = AverageMeter(ema=True)
    moving.update(10.0)
    moving.update(20.0)
    assert moving.avg == pytest.approx(2.9)


def test_meters_read_tensors_lazily(monkeypatch):
    meter = MetricMeter()
    read = []
    monkeypatch.setattr(torch.Tensor, "item", lambda self: read.append("item"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda self: read.append("float") or 0.0)
    loss = torch.tensor(1.0, requires_grad=True)
    for _ in range(3):
        meter.update({"loss": loss * 2})
    assert read == []
    assert not meter.meters["loss"].lazy_avg.requires_grad
    monkeypatch.undo()
    assert meter.meters["loss"].avg == 2.0


def test_in_place_changes_of_a_tensor_do_not_change_the_meter():
    meter, value = AverageMeter(), torch.tensor(1.0)
    meter.update(value)
    value.fill_(9)
    assert (meter.val, meter.avg) == (1.0, 1.0)


def test_metric_meter_prints_value_and_average():
    meter = MetricMeter()
    meter.update({"loss": 1.0, "acc": torch.tensor(50.0)})
    meter.update({"loss": 2.0, "acc": 100.0})
    meter.update(None)
    assert str(meter) == "loss 2.0000 (1.5000) acc 100.0000 (75.0000)"
    with pytest.raises(TypeError, match="dict of named losses"):
        meter.update([1.0])


# the log


@pytest.fixture
def console(monkeypatch, capsys):
    """Restore stdout after a test that replaces it."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    return capsys


def test_log_copies_stdout_line_by_line(tmp_path, console):
    setup_logger(tmp_path / "run")
    print("=> result")
    assert (tmp_path / "run" / "log.txt").read_text() == "=> result\n"  # without a flush
    assert console.readouterr().out == "=> result\n"
    assert sys.stdout.isatty() is False
    sys.stdout.close()
    print("not in the log")
    assert (tmp_path / "run" / "log.txt").read_text() == "=> result\n"


def test_newest_log_is_log_txt_and_older_logs_are_kept(tmp_path, console):
    for number in range(3):
        setup_logger(tmp_path)
        print(f"run {number}")
        os.utime(tmp_path / "log.txt", (0, 0))
    sys.stdout.close()
    assert (tmp_path / "log.txt").read_text() == "run 2\n"
    older = sorted(p for p in tmp_path.iterdir() if p.name != "log.txt")
    assert [p.read_text() for p in older] == ["run 0\n", "run 1\n"]
    assert all(re.match(r"log\.txt-\d{4}(-\d\d){5}(\.2)?$", p.name) for p in older)


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nothing"])
def test_an_unwritable_log_raises_a_clear_error(tmp_path, console, folder):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match=r"log\.txt'$") as caught:
        setup_logger(tmp_path / folder)
    sentence, code = describe_failure(caught.value)
    assert code == MACHINE
    assert "log.txt' cannot be used (" in sentence
    assert not isinstance(sys.stdout, Logger)
    assert (tmp_path / "file").read_text() == "kept"


def test_log_by_file_name_and_as_a_context(tmp_path, console):
    setup_logger(None)
    assert not isinstance(sys.stdout, Logger)
    setup_logger(tmp_path / "train.log")
    print("a")
    sys.stdout.flush()
    sys.stdout.close()
    assert (tmp_path / "train.log").read_text() == "a\n"
    before = sys.stdout
    with Logger(tmp_path / "sub" / "b.txt"):
        print("b")
    assert sys.stdout is before
    assert (tmp_path / "sub" / "b.txt").read_text() == "b\n"
    with Logger():
        print("to the console alone")


def test_env_info_lists_versions():
    info = collect_env_info()
    assert f"torch: {torch.__version__.split('+')[0]}" in info
    for word in ("python: 3", "platform: ", "cpu: ", "cuda: ", "torchvision: ", "numpy: "):
        assert word in info


def test_env_info_names_each_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 90100)
    assert "cudnn 90100, GPU 0, GPU 1\n" in collect_env_info()


def test_env_info_lists_missing_packages(monkeypatch):
    monkeypatch.setattr("dassl.utils.env.PACKAGES", ("no-such-package",))
    assert "no-such-package: not installed" in collect_env_info()


# random states


def draw():
    return random.random(), np.random.normal(), torch.rand(2).tolist()


def test_seed_and_states():
    set_random_seed(3)
    first = draw()
    random.gauss(0, 1)  # caches a second number
    state = get_random_state()
    second = draw()
    draw()
    set_random_state(state)
    assert draw() == second
    set_random_seed(3)
    assert draw() == first


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_numpys_range(seed):
    with pytest.raises(UsageError, match=rf"SEED must be .*less than 2\*\*32 .*got {seed}"):
        set_random_seed(seed)
    set_random_seed(2**32 - 1)


def test_states_can_be_saved_and_loaded_safely(tmp_path):
    state = get_random_state()
    expected = draw()
    torch.save(state, tmp_path / "state")
    set_random_state(torch.load(tmp_path / "state", weights_only=True))
    assert draw() == expected


def test_random_state_is_restored_after_an_error():
    set_random_seed(0)
    expected = draw()
    set_random_seed(0)

    def fail():
        with preserved_random_state():
            draw()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert draw() == expected


def test_states_of_another_number_of_gpus_raise(monkeypatch):
    state = {**get_random_state(), "cuda": [torch.get_rng_state()] * 2}
    set_random_state(state)  # without GPUs, their states are ignored
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="of 2 GPUs, but 1 are visible"):
        set_random_state(state)


def test_gpu_states_are_restored(monkeypatch):
    state = {**get_random_state(), "cuda": [torch.get_rng_state(), torch.get_rng_state() + 1]}
    restored = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restored.extend)
    set_random_state(state)
    assert all(torch.equal(a, b) for a, b in zip(restored, state["cuda"], strict=True))


def test_seeding_order_matches_the_original():
    """Seeding random, numpy and torch alike reproduces the draws of tests/data/fewshot.json."""
    set_random_seed(1)
    assert random.sample(range(100), 5) == random.Random(1).sample(range(100), 5)
    assert np.random.rand() == np.random.RandomState(1).rand()
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))
