"""Warm-up schedulers and RAdam of the original's names against loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from dassl.optim.lr_scheduler import ConstantWarmupScheduler, LinearWarmupScheduler
from dassl.optim.radam import PlainRAdam, RAdam
from dassl.utils import UsageError

BASES = (0.3, 0.02)


def optimizer():
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in BASES]
    return torch.optim.SGD(groups, lr=1.0)


def schedule(kind, epochs, rate, successor="cosine"):
    optim = optimizer()
    after = CosineAnnealingLR(optim, 10.0) if successor == "cosine" else StepLR(optim, 2, 0.5)
    return optim, kind(optim, after, epochs, rate)


def rates_of(optim, scheduler, count):
    found = []
    for _ in range(count):
        found.append([group["lr"] for group in optim.param_groups])
        assert scheduler.get_last_lr() == found[-1]
        optim.step()
        scheduler.step()
    return found


def expected_rate(kind, epoch, base, epochs, rate, successor):
    """Return the rate by its definition: the warm-up, then the successor from its epoch 0."""
    if epoch < epochs:
        linear = base * epoch / epochs if epoch else rate
        return rate if kind is ConstantWarmupScheduler else linear
    after = epoch - epochs
    if successor == "cosine":
        return base * (1 + math.cos(math.pi * after / 10)) / 2
    return base * 0.5 ** (after // 2)


@pytest.mark.parametrize("kind", [ConstantWarmupScheduler, LinearWarmupScheduler])
@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("successor", ["cosine", "step"])
def test_rates(kind, epochs, successor):
    found = rates_of(*schedule(kind, epochs, 1e-5, successor), 9)
    for epoch, rates in enumerate(found):
        for base, rate in zip(BASES, rates, strict=True):
            expected = expected_rate(kind, epoch, base, epochs, 1e-5, successor)
            assert rate == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("kind", [ConstantWarmupScheduler, LinearWarmupScheduler])
@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_restored_schedule_goes_on(kind, stop, tmp_path):
    optim, scheduler = schedule(kind, 3, 1e-5)
    rates_of(optim, scheduler, stop)
    torch.save([optim.state_dict(), scheduler.state_dict()], tmp_path / "state.pt")
    other, again = schedule(kind, 3, 1e-5)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    other.load_state_dict(states[0])
    again.load_state_dict(states[1])
    assert rates_of(other, again, 5) == rates_of(optim, scheduler, 5)


def test_verbose_prints_and_a_number_is_refused(capsys):
    optim = optimizer()
    scheduler = ConstantWarmupScheduler(optim, CosineAnnealingLR(optim, 10.0), 2, 1e-5, -1, True)
    optim.step()
    scheduler.step()
    assert capsys.readouterr().out.splitlines()[-1] == "Learning rates: 1.0000e-05, 1.0000e-05"
    with pytest.raises(UsageError, match=r"call step\(\) without a number"):
        scheduler.step(4)


@pytest.mark.parametrize("kind", [RAdam, PlainRAdam])
def test_radam_is_that_of_its_paper(kind):
    """Algorithm 2 of arXiv:1908.03265, with decoupled weight decay; momentum steps at first."""
    lr, (beta1, beta2), eps, decay = 0.05, (0.9, 0.97), 1e-8, 0.1
    torch.manual_seed(0)
    start = torch.randn(5, dtype=torch.float64)
    gradients = torch.randn(40, 5, dtype=torch.float64)
    parameter = torch.nn.Parameter(start.clone())
    optim = kind([parameter], lr, (beta1, beta2), eps, decay)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optim.step()
    kinds = set()
    for i in range(5):
        p, m, v = float(start[i]), 0.0, 0.0
        longest = 2 / (1 - beta2) - 1
        for t, gradient in enumerate(gradients[:, i].tolist(), start=1):
            m = beta1 * m + (1 - beta1) * gradient
            v = beta2 * v + (1 - beta2) * gradient**2
            p -= lr * decay * p
            length = longest - 2 * t * beta2**t / (1 - beta2**t)
            step = m / (1 - beta1**t)
            if length > 5:
                r = (length - 4) * (length - 2) * longest
                r /= (longest - 4) * (longest - 2) * length
                step *= math.sqrt(r) * math.sqrt(1 - beta2**t) / (math.sqrt(v) + eps)
            kinds.add(length > 5)
            p -= lr * step
        assert float(parameter[i]) == pytest.approx(p, rel=0, abs=1e-9)
    assert kinds == {True, False}


def test_radam_that_skips_steps_is_refused():
    with pytest.raises(UsageError, match="degenerated_to_sgd False"):
        RAdam([torch.nn.Parameter(torch.zeros(1))], degenerated_to_sgd=False)
