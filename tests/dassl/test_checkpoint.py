"""Checkpoints, including those of Dassl.pytorch, are loaded safely and saved atomically."""

import collections
import functools
import os
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from dassl.config import get_cfg_default, merge_opts
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import (
    UsageError,
    count_num_param,
    init_network_weights,
    load_checkpoint,
    load_pretrained_weights,
    open_all_layers,
    open_specified_layers,
    resume_from_checkpoint,
    save_checkpoint,
)
from dassl.utils.checkpoint import load_state, newest_checkpoint, save_checkpoints
from dassl.utils.safe_load import Inert


class Evil:
    """Pickle to a function call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def poisons(marker):
    return {
        "os.system": Evil(os.system, f"touch {marker}"),
        "eval": Evil(eval, f"open({str(marker)!r}, 'w')"),
        "open": Evil(open, str(marker), "w"),
        "functools.partial": functools.partial(print, "boo"),
        "Path": Path("x"),
        "Evil": Evil,
    }


@pytest.mark.parametrize("name", poisons("x"))
@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_checkpoint_raises_and_executes_nothing(tmp_path, name, zipped):
    marker = tmp_path / "ran"
    path = tmp_path / "model.pth.tar-1"
    state = {"state_dict": {}, "epoch": 1, "optimizer": poisons(marker)[name]}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r"refused to load .*it names '.*', which could run code"):
        load_checkpoint(path)
    assert not marker.exists()


def test_error_names_the_disallowed_global(tmp_path):
    torch.save({"a": functools.partial(print)}, tmp_path / "c")
    with pytest.raises(UsageError, match=r"it names 'functools\.partial'"):
        load_checkpoint(tmp_path / "c")


def test_plain_pickle_raises(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "c").write_bytes(pickle.dumps(Evil(os.system, f"touch {marker}"), protocol=2))
    with pytest.raises(UsageError, match=r"refused to load|cannot read"):
        load_checkpoint(tmp_path / "c")
    assert not marker.exists()


def test_loading_does_not_change_torchs_safe_globals(tmp_path):
    class Mine: ...

    torch.serialization.add_safe_globals([Mine])
    before = set(torch.serialization.get_safe_globals())
    torch.save({"epoch": 1}, tmp_path / "c")
    load_checkpoint(tmp_path / "c")
    assert set(torch.serialization.get_safe_globals()) == before
    torch.serialization.clear_safe_globals()


def test_optimizers_and_schedulers_are_loaded_as_inert_objects(tmp_path):
    model = nn.Linear(2, 2)
    optim = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optim.step()
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(optim, 4)
    milestones = torch.optim.lr_scheduler.MultiStepLR(optim, [2, 3])
    state = {"scheduler": {"successor": sched, "other": milestones}, "optim": optim}
    # Current schedulers wrap optimizer.step in a closure, which cannot be pickled.
    del optim.step
    torch.save(state, tmp_path / "c")
    loaded = load_checkpoint(tmp_path / "c")
    successor = loaded["scheduler"]["successor"]
    assert isinstance(successor, Inert)
    assert not isinstance(successor, torch.optim.lr_scheduler.LRScheduler)
    assert (successor.T_max, successor.last_epoch, successor.base_lrs) == (4, 0, [0.5])
    assert repr(successor) == "<inert torch.optim.lr_scheduler.CosineAnnealingLR>"
    assert loaded["scheduler"]["other"].milestones == collections.Counter([2, 3])
    assert loaded["optim"].param_groups[0]["momentum"] == 0.9
    assert not hasattr(loaded["optim"], "step")


def test_classes_of_the_original_dassl_are_loaded_as_inert_objects(tmp_path):
    """Load an optimizer of Dassl.pytorch that is pickled with its module path."""
    original = type("RAdam", (), {"__module__": "dassl.optim.radam", "__qualname__": "RAdam"})
    payload = original()
    payload.degenerated_to_sgd = True
    with pytest.MonkeyPatch.context() as patch:
        module = types.SimpleNamespace(RAdam=original)
        patch.setitem(sys.modules, "dassl.optim.radam", module)
        torch.save({"optimizer": payload}, tmp_path / "c")
    loaded = load_checkpoint(tmp_path / "c")["optimizer"]
    assert isinstance(loaded, Inert)
    assert loaded.degenerated_to_sgd


def test_broken_files_raise_a_clear_error(tmp_path):
    with pytest.raises(UsageError, match="needs a path"):
        load_checkpoint(None)
    with pytest.raises(UsageError, match=r"no checkpoint at .*missing"):
        load_checkpoint(tmp_path / "missing")
    torch.save({"weight": torch.zeros(1000)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for share in (0, 0.3, 0.9):
        (tmp_path / "cut").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UsageError, match=r"cannot read the checkpoint .*is it complete"):
            load_checkpoint(tmp_path / "cut")
    torch.save(torch.zeros(2), tmp_path / "tensor")
    with pytest.raises(UsageError, match="contains a Tensor, not the dict"):
        load_checkpoint(tmp_path / "tensor")


# a checkpoint folder that the authors' release wrote


def release_cfg():
    cfg = get_cfg_default()
    words = {"NAME": "sgd", "LR": 0.002, "LR_SCHEDULER": "cosine", "MAX_EPOCH": 4}
    words |= {"WARMUP_EPOCH": 1, "WARMUP_TYPE": "constant"}
    merge_opts(cfg, [word for key, value in words.items() for word in (f"OPTIM.{key}", value)])
    return cfg


def test_release_checkpoint_loads_and_its_schedule_continues(release_run):
    path = newest_checkpoint(release_run / "release_run" / "Memory")
    checkpoint = load_checkpoint(path)
    assert checkpoint["epoch"] == 4
    assert checkpoint["memory_item"].ndim == 2
    assert all(isinstance(value, torch.Tensor) for value in checkpoint["state_dict"].values())
    cfg = release_cfg()
    optim = build_optimizer([nn.Parameter(torch.zeros(1))], cfg.OPTIM)
    sched = build_lr_scheduler(optim, cfg.OPTIM)
    sched.load_state_dict(checkpoint["scheduler"])
    assert sched.last_epoch == 4
    assert optim.param_groups[0]["lr"] == pytest.approx(checkpoint["scheduler"]["_last_lr"][0])


# saving


def state_at(epoch, value=0.0):
    return {"state_dict": {"module.weight": torch.tensor([value])}, "epoch": epoch}


def test_save_names_the_newest_and_keeps_a_copy_of_the_best(tmp_path, capsys):
    state = state_at(3, 1.5)
    save_checkpoint(state, tmp_path, is_best=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.pth.tar-3", "model-best.pth.tar", "checkpoint"}
    assert (tmp_path / "checkpoint").read_text() == "model.pth.tar-3\n"
    assert newest_checkpoint(tmp_path) == tmp_path / "model.pth.tar-3"
    for name in ("model.pth.tar-3", "model-best.pth.tar"):
        assert load_checkpoint(tmp_path / name)["state_dict"] == {"weight": torch.tensor([1.5])}
    assert "module.weight" in state["state_dict"]  # the caller's dict is unchanged
    assert f"Checkpoint saved to {tmp_path / 'model.pth.tar-3'}" in capsys.readouterr().out


def test_save_under_a_name_and_with_the_prefix(tmp_path):
    save_checkpoint(
        state_at(1), tmp_path, remove_module_from_keys=False, model_name="model-best.pth.tar"
    )
    assert newest_checkpoint(tmp_path).name == "model-best.pth.tar"
    assert "module.weight" in load_checkpoint(tmp_path / "model-best.pth.tar")["state_dict"]


def test_interrupted_save_keeps_the_previous_set(tmp_path, monkeypatch):
    def save_set(value):
        folders = [tmp_path / name for name in ("a", "b")]
        save_checkpoints({f: state_at(1, value) for f in folders}, model_name="best")

    save_set(1.0)
    real_save, calls = torch.save, []

    def second_fails(state, path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real_save(state, path)

    monkeypatch.setattr(torch, "save", second_fails)
    with pytest.raises(KeyboardInterrupt):
        save_set(2.0)
    for name in ("a", "b"):
        assert sorted(p.name for p in (tmp_path / name).iterdir()) == ["best", "checkpoint"]
        assert load_checkpoint(tmp_path / name / "best")["state_dict"]["module.weight"] == 1.0


@pytest.mark.parametrize("pointer", [b"model.pth.tar-9", b"../elsewhere", b"", b"\xff\0"])
def test_newest_checkpoint_does_not_depend_on_the_pointer(tmp_path, pointer):
    assert newest_checkpoint(tmp_path) is None
    for epoch in (2, 10, 9):
        save_checkpoint(state_at(epoch), tmp_path)
    (tmp_path / "checkpoint").write_bytes(pointer)
    assert newest_checkpoint(tmp_path).name == "model.pth.tar-10"
    torch.save(state_at(11), tmp_path / "model-best.pth.tar")
    assert newest_checkpoint(tmp_path).name == "model-best.pth.tar"
    torch.save(state_at(3), tmp_path / "model-best.pth.tar")
    assert newest_checkpoint(tmp_path).name == "model.pth.tar-10"


# resuming one model


def make_parts():
    torch.manual_seed(0)
    cfg = release_cfg()
    model = nn.Linear(2, 2)
    optim = build_optimizer(model, cfg.OPTIM)
    return model, optim, build_lr_scheduler(optim, cfg.OPTIM)


def step(model, optim, sched):
    optim.zero_grad()
    model(torch.ones(1, 2)).square().sum().backward()
    optim.step()
    sched.step()


def test_resume_restores_model_optimizer_and_schedule(tmp_path):
    model, optim, sched = make_parts()
    for _ in range(2):
        step(model, optim, sched)
    parts = {"state_dict": model, "optimizer": optim, "scheduler": sched}
    state = {"epoch": 2, **{key: part.state_dict() for key, part in parts.items()}}
    save_checkpoint(state, tmp_path)
    again = make_parts()
    assert resume_from_checkpoint(tmp_path, *again) == 2
    step(model, optim, sched)
    step(*again)
    assert torch.equal(model.weight, again[0].weight)
    assert optim.param_groups[0]["lr"] == again[1].param_groups[0]["lr"]


def test_resume_reports_missing_parts_and_mismatches(tmp_path, capsys):
    with pytest.raises(UsageError, match="no checkpoint to resume from"):
        resume_from_checkpoint(tmp_path, nn.Linear(2, 2))
    model, optim, sched = make_parts()
    save_checkpoint({"state_dict": model.state_dict(), "epoch": 1, "optimizer": None}, tmp_path)
    assert resume_from_checkpoint(tmp_path, model, optim, sched) == 1
    out = capsys.readouterr().out
    assert "has no optimizer state" in out
    assert "has no scheduler state" in out
    with pytest.raises(UsageError, match=r"the model in .* does not fit this run: .*size mismatch"):
        resume_from_checkpoint(tmp_path, nn.Linear(3, 3))
    state = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1).state_dict()
    with pytest.raises(UsageError, match="the optimizer does not fit this run"):
        load_state(optim, state, "the optimizer")


# weights into a model


def test_matching_pretrained_weights_are_loaded_and_others_reported(tmp_path, capsys):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    weights = {
        "module.0.weight": torch.full((2, 2), 7.0),
        "1.weight": torch.zeros(9, 9),
        "token_prefix": torch.zeros(1),
        "words": "not a tensor",
    }
    torch.save({"state_dict": weights}, tmp_path / "w")
    load_pretrained_weights(model, tmp_path / "w")
    assert torch.equal(model[0].weight, torch.full((2, 2), 7.0))
    out = capsys.readouterr().out
    assert "Loaded 1 weights" in out
    assert ": 0.weight" in out
    assert "Discarded due to unmatched name or shape: 1.weight, token_prefix, words" in out
    assert "Not in the file and unchanged: 0.bias, 1.weight, 1.bias" in out


def test_pretrained_weights_without_a_match_raise(tmp_path):
    torch.save({f"other{i}": torch.zeros(1) for i in range(9)}, tmp_path / "w")
    with pytest.raises(UsageError, match=r"no weight in .* matches .* \(9 in all\), the model has"):
        load_pretrained_weights(nn.Linear(1, 1), tmp_path / "w")


def test_open_layers():
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.BatchNorm1d(1)})
    open_specified_layers(nn.DataParallel(model), "a")
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, False]
    assert (model["a"].training, model["b"].training) == (True, False)
    open_all_layers(model)
    assert all(p.requires_grad for p in model.parameters())
    assert model["b"].training
    with pytest.raises(UsageError, match="no layer 'c': allowed: a, b"):
        open_specified_layers(model, ["a", "c"])


def test_count_num_param():
    assert count_num_param(nn.Linear(3, 2)) == 8


@pytest.mark.parametrize("init_type", ["normal", "xavier", "kaiming", "orthogonal"])
def test_init_network_weights(init_type):
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Linear(4, 4), nn.BatchNorm2d(3), nn.Identity())
    for parameter in model.parameters():
        nn.init.constant_(parameter, 5.0)
    init_network_weights(model, init_type)
    assert not (model[0].weight == 5).any()
    assert not (model[1].weight == 5).any()
    assert torch.equal(model[1].bias, torch.zeros(4))
    assert torch.equal(model[2].weight, torch.ones(3))
    assert torch.equal(model[2].bias, torch.zeros(3))


def test_init_network_weights_unknown():
    with pytest.raises(UsageError, match="unknown initialization 'xavierr': did you mean"):
        init_network_weights(nn.Linear(1, 1), "xavierr")
