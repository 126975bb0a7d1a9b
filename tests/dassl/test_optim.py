"""Optimizers, and learning rates compared with torch's schedulers."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as torch_schedulers

from dassl.config import get_cfg_default, merge_opts
from dassl.optim import build_lr_scheduler, build_optimizer, optimizer
from dassl.utils import UsageError
from dassl.utils.safe_load import Inert


def optim_cfg(**settings):
    cfg = get_cfg_default()
    merge_opts(cfg, [word for key, value in settings.items() for word in (f"OPTIM.{key}", value)])
    return cfg.OPTIM


def build(lrs=(0.1,), **settings):
    """Return an optimizer with a group for each of `lrs`, and its schedule."""
    cfg = optim_cfg(NAME="sgd", **settings)
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs]
    optim = build_optimizer(None, cfg, param_groups=groups)
    return optim, build_lr_scheduler(optim, cfg)


def rates(optim):
    return [group["lr"] for group in optim.param_groups]


def run(optim, sched, epochs):
    """Return the learning rates of each epoch as tuples."""
    seen = []
    for _ in range(epochs):
        seen.append(tuple(rates(optim)))
        optim.step()
        sched.step()
    return seen


# schedules


def test_coop_schedule_by_hand():
    """Epoch 0 has 1e-5, followed by a full cosine that does not reach 0."""
    settings = {"LR_SCHEDULER": "cosine", "MAX_EPOCH": 5, "WARMUP_EPOCH": 1}
    optim, sched = build(lrs=(0.002,), WARMUP_TYPE="constant", **settings)
    expected = [1e-5] + [0.001 * (1 + math.cos(math.pi * (e - 1) / 5)) for e in range(1, 5)]
    assert [lr for (lr,) in run(optim, sched, 5)] == pytest.approx(expected, rel=1e-12)
    assert expected[1] == 0.002


TORCH = {
    "single_step": lambda optim: torch_schedulers.StepLR(optim, 3, gamma=0.5),
    "multi_step": lambda optim: torch_schedulers.MultiStepLR(optim, [2, 3, 7], gamma=0.5),
    "cosine": lambda optim: torch_schedulers.CosineAnnealingLR(optim, 12.0),
}
STEPSIZE = {"single_step": (3,), "multi_step": (2, 3, 7), "cosine": (-1,)}
LRS = (0.1, 0.02)


def reference(name, warm_up_epochs, kind, recount):
    """Return the expected rates of each epoch: the warm-up's, then torch's."""
    optim = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in LRS])
    successor = TORCH[name](optim)
    if not recount:
        successor.last_epoch = warm_up_epochs
    seen = []
    for epoch in range(12):
        if epoch < warm_up_epochs and kind == "constant":
            seen.append((1e-5, 1e-5))
        elif epoch < warm_up_epochs:
            seen.append(tuple(lr * epoch / warm_up_epochs if epoch else 1e-5 for lr in LRS))
        else:
            seen.append(tuple(successor.get_last_lr()))
            optim.step()
            successor.step()
    return seen


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("warm_up_epochs", [-1, 1, 4])
@pytest.mark.parametrize("kind", ["constant", "linear"])
@pytest.mark.parametrize("recount", [True, False])
def test_schedules_are_torchs_after_a_warm_up(name, warm_up_epochs, kind, recount):
    optim, sched = build(
        lrs=LRS,
        LR_SCHEDULER=name,
        MAX_EPOCH=12,
        STEPSIZE=STEPSIZE[name],
        GAMMA=0.5,
        WARMUP_EPOCH=warm_up_epochs,
        WARMUP_TYPE=kind,
        WARMUP_RECOUNT=recount,
    )
    ours = run(optim, sched, 12)
    theirs = reference(name, max(warm_up_epochs, 0), kind, recount)
    for epoch in range(12):
        assert ours[epoch] == pytest.approx(theirs[epoch], rel=1e-9, abs=1e-15)


def test_recount_changes_the_schedule():
    settings = {"LR_SCHEDULER": "cosine", "MAX_EPOCH": 10, "WARMUP_EPOCH": 2}
    again = run(*build(WARMUP_RECOUNT=True, **settings), 10)
    onward = run(*build(WARMUP_RECOUNT=False, **settings), 10)
    assert again[2] == onward[2] == (0.1,)
    assert again[9] > onward[9]


def test_step_size_of_0_or_less_is_max_epoch():
    assert set(run(*build(LR_SCHEDULER="single_step", MAX_EPOCH=4), 4)) == {(0.1,)}


FULL = {"LR_SCHEDULER": "cosine", "MAX_EPOCH": 6, "WARMUP_EPOCH": 2, "WARMUP_TYPE": "linear"}


@pytest.mark.parametrize("done", range(7))
def test_schedule_resumes_from_its_state_dict(done):
    uninterrupted = run(*build(**FULL), 6)
    optim, sched = build(**FULL)
    run(optim, sched, done)
    state = sched.state_dict()
    assert all(isinstance(value, int | list) for value in state.values())
    again = build(**FULL)
    again[1].load_state_dict(state)
    assert rates(again[0]) == rates(optim) == sched.get_last_lr()
    assert run(*again, 6 - done) == uninterrupted[done:]


class PickledSuccessor(Inert):
    """A torch scheduler as the original pickles it."""

    def __init__(self, steps, last_epoch):
        self._step_count, self.last_epoch = steps + 1, last_epoch


@pytest.mark.parametrize("done", range(7))
@pytest.mark.parametrize("recount", [True, False])
def test_schedule_resumes_from_a_state_of_dassl(done, recount):
    """The warm-up stops counting at its end, and its pickled successor continues."""
    warm_up = min(done, 2)
    steps = done - warm_up
    successor = PickledSuccessor(steps, last_epoch=steps + (0 if recount else 2))
    optim, sched = build(WARMUP_RECOUNT=recount, **FULL)
    expected = run(*build(WARMUP_RECOUNT=recount, **FULL), 6)
    sched.load_state_dict({"last_epoch": warm_up, "warmup_epoch": 2, "successor": successor})
    assert run(optim, sched, 6 - done) == expected[done:]


def test_schedule_resumes_from_a_state_of_torch():
    optim, sched = build(LR_SCHEDULER="cosine", MAX_EPOCH=6)
    theirs = torch_schedulers.CosineAnnealingLR(build()[0], 6.0)
    for _ in range(3):
        theirs.optimizer.step()
        theirs.step()
    sched.load_state_dict(theirs.state_dict())
    assert rates(optim) == pytest.approx(theirs.get_last_lr())


def test_a_changed_schedule_is_used_and_reported(capsys):
    optim, sched = build(**FULL)
    run(optim, sched, 3)
    state = sched.state_dict()
    build(**FULL)[1].load_state_dict(state)
    assert capsys.readouterr().out == ""
    longer = build(**{**FULL, "MAX_EPOCH": 60})
    longer[1].load_state_dict(state)
    assert "learning rate of epoch 4 was" in capsys.readouterr().out
    assert rates(longer[0])[0] > rates(optim)[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"LR_SCHEDULER": "cosin"}, "LR_SCHEDULER 'cosin' is unknown: did you mean 'cosine'"),
        ({"WARMUP_EPOCH": 1, "WARMUP_TYPE": "line"}, "WARMUP_TYPE 'line' .*did you mean 'linear'"),
        ({"LR_SCHEDULER": "single_step", "STEPSIZE": (1.5,)}, "must be an integer, got 1.5"),
        (
            {
                "LR_SCHEDULER": "cosine",
                "MAX_EPOCH": 3,
                "WARMUP_EPOCH": 3,
                "WARMUP_RECOUNT": False,
            },
            "the learning rate is 0 when its warm-up of 3 epochs ends",
        ),
    ],
)
def test_invalid_schedules_raise(settings, message):
    with pytest.raises(UsageError, match=message):
        build(**settings)


def test_multi_step_needs_a_list():
    cfg = optim_cfg(LR_SCHEDULER="multi_step")
    cfg.STEPSIZE = 3
    with pytest.raises(UsageError, match="must be a list, got 3"):
        build_lr_scheduler(build()[0], cfg)


# optimizers


SETTINGS = {"LR": 0.25, "WEIGHT_DECAY": 0.125, "MOMENTUM": 0.5, "ADAM_BETA1": 0.75}
ADAM = {"lr": 0.25, "weight_decay": 0.125, "betas": (0.75, 0.999)}
EXPECTED = {
    "sgd": (
        torch.optim.SGD,
        {"lr": 0.25, "weight_decay": 0.125, "momentum": 0.5, "dampening": 0, "nesterov": True},
    ),
    "rmsprop": (
        torch.optim.RMSprop,
        {"lr": 0.25, "weight_decay": 0.125, "momentum": 0.5, "alpha": 0.99},
    ),
    "adam": (torch.optim.Adam, {**ADAM, "amsgrad": False}),
    "amsgrad": (torch.optim.Adam, {**ADAM, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, ADAM),
    "radam": (torch.optim.RAdam, {**ADAM, "decoupled_weight_decay": True}),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_optimizers_read_their_settings(name):
    optim = build_optimizer(nn.Linear(2, 2), optim_cfg(NAME=name, SGD_NESTEROV=True, **SETTINGS))
    cls, options = EXPECTED[name]
    assert type(optim) is cls
    assert {key: optim.defaults[key] for key in options} == options


def test_what_to_optimize():
    model, cfg = nn.Linear(2, 2), optim_cfg()
    groups = [{"params": [model.bias], "lr": 0.5}]
    by_module = build_optimizer(model, cfg).param_groups[0]["params"]
    by_parameters = build_optimizer(model.parameters(), cfg).param_groups[0]["params"]
    assert (
        list(map(id, by_module))
        == list(map(id, by_parameters))
        == list(map(id, model.parameters()))
    )
    assert build_optimizer(groups, cfg).param_groups[0]["lr"] == 0.5
    assert build_optimizer(model, cfg, param_groups=groups).param_groups[0]["lr"] == 0.5


def net():
    """A model with two layers and a parameter."""
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    model.scale = nn.Parameter(torch.ones(1))
    return model


@pytest.mark.parametrize("new_layers", ["head", ["head"]])
def test_staged_lr(new_layers):
    cfg = optim_cfg(LR=0.5, STAGED_LR=True, BASE_LR_MULT=0.25)
    cfg.NEW_LAYERS = new_layers
    model = net()
    base, new = build_optimizer(nn.DataParallel(model), cfg).param_groups
    assert (base["lr"], new["lr"]) == (0.125, 0.5)
    assert set(map(id, new["params"])) == set(map(id, model["head"].parameters()))
    assert set(map(id, base["params"] + new["params"])) == set(map(id, model.parameters()))


def test_invalid_staged_lr_raises():
    with pytest.raises(UsageError, match=r"got \['hed'\]: did you mean 'head'"):
        build_optimizer(net(), optim_cfg(STAGED_LR=True, NEW_LAYERS=("hed",)))
    with pytest.raises(UsageError, match=r"got \[\]: allowed: backbone, head"):
        build_optimizer(net(), optim_cfg(STAGED_LR=True))
    with pytest.raises(UsageError, match="needs a module"):
        build_optimizer(net().parameters(), optim_cfg(STAGED_LR=True, NEW_LAYERS=("head",)))


def test_staged_lr_with_parameter_groups_warns():
    groups = [{"params": [nn.Parameter(torch.zeros(1))]}]
    with pytest.warns(UserWarning, match="STAGED_LR has no effect"):
        build_optimizer(net(), optim_cfg(STAGED_LR=True), param_groups=groups)


def test_unknown_optimizers_raise():
    with pytest.raises(UsageError, match=r"OPTIM\.NAME 'adan' is unknown: did you mean 'adam'"):
        build_optimizer(net(), optim_cfg(NAME="adan"))


# fused steps


def quadratic(name, start=None):
    """Minimize a quadratic in 5 steps; return the optimizer and the parameters of each step."""
    weight = nn.Parameter(torch.linspace(-1, 1, 6).view(2, 3))
    optim = build_optimizer([weight], optim_cfg(NAME=name, LR=0.05, MOMENTUM=0.9))
    if start is not None:
        optim.load_state_dict(deepcopy(start))
    seen = []
    for _ in range(5):
        optim.zero_grad()
        (weight**2 * torch.arange(6).view(2, 3)).sum().backward()
        optim.step()
        seen.append(weight.detach().clone())
    return optim, torch.stack(seen)


def pretend_cuda(monkeypatch):
    """Build optimizers as on CUDA; fused steps also run on a CPU."""
    monkeypatch.setattr(nn.Parameter, "is_cuda", True, raising=False)


@pytest.mark.parametrize("name", ["sgd", "adam", "amsgrad", "adamw", "rmsprop", "radam"])
def test_step_is_fused_only_on_cuda_and_equals_the_plain_step(name, monkeypatch):
    plain, expected = quadratic(name)
    pretend_cuda(monkeypatch)
    fused, steps = quadratic(name)
    torch.testing.assert_close(steps, expected, rtol=1e-6, atol=1e-7)
    assert not plain.param_groups[0].get("fused")
    assert bool(fused.param_groups[0].get("fused")) == (name in optimizer.FUSED)


def test_loading_a_checkpoint_does_not_change_fused(monkeypatch):
    plain, _ = quadratic("adamw")
    pretend_cuda(monkeypatch)
    fused, steps = quadratic("adamw", start=plain.state_dict())
    assert fused.param_groups[0]["fused"] is True
    monkeypatch.undo()
    again, expected = quadratic("adamw", start=plain.state_dict())
    assert not again.param_groups[0]["fused"]
    torch.testing.assert_close(steps, expected, rtol=1e-6, atol=1e-7)
    back, _ = quadratic("adamw", start=fused.state_dict())
    assert not back.param_groups[0]["fused"]
