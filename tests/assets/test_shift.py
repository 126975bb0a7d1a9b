"""The domain shift is chosen by its rule from measurements."""

import pytest
import torch

import clip
from assets.critters import choose_shift
from dassl.utils import UsageError
from datasets.critters_world.folder import Plan
from trainers.prompting.contexts import ContextPrompts


def row(shift: str, zero_base: float, zero_new: float, probe: float, coop: float) -> dict:
    return {
        "shift": shift,
        "zero_shot_base": zero_base,
        "zero_shot_new": zero_new,
        "probe_base": probe,
        "coop_base": coop,
        "coop_new": 0.0,
    }


def test_candidate_with_the_largest_gain_is_chosen():
    rows = [
        row("easy", 90, 90, 95, 99),  # no headroom
        row("alien", 30, 80, 90, 80),  # not recognized
        row("alien2", 80, 30, 95, 94),
        row("small", 60, 60, 80, 65),
        row("chosen", 60, 60, 70, 68),
    ]
    assert choose_shift.choose(rows) == "chosen"
    assert choose_shift.choose(rows[::-1]) == "chosen"
    assert "chosen: **chosen**" in choose_shift.markdown(rows, "chosen")
    with pytest.raises(UsageError, match="easy, alien, alien2 satisfies the rule"):
        choose_shift.choose(rows[:3])


def test_measure_does_not_render_test_images(monkeypatch):
    drawn = set()
    real = Plan.draw

    def draw(self, split, label, index):
        drawn.add(split)
        return real(self, split, label, index)

    monkeypatch.setattr(Plan, "draw", draw)
    monkeypatch.setattr(choose_shift, "_EPOCHS", 1)
    monkeypatch.setattr(choose_shift, "_SHOTS", 2)
    model, _ = clip.load("critters-vit-t", device="cpu")
    plan = Plan(species=(0, 20, 45, 70), shift="worn", val=2)
    measured = choose_shift.measure(model.requires_grad_(False), plan)
    assert drawn == {"train", "val"}
    assert list(measured) == list(row("", 0, 0, 0, 0))
    assert all(0 <= value <= 100 for key, value in measured.items() if key != "shift")


def test_tuning_lowers_the_loss_on_the_shots():
    model, _ = clip.load("critters-vit-t", device="cpu")
    model.requires_grad_(False)
    plan = Plan(species=(0, 3, 7), shift="hue36")
    shots = choose_shift.Features(model, plan, "train", range(3), 8)
    prompts = ContextPrompts(model, [plan.classname(i) for i in range(3)], ctx_init="a photo of a")
    scale = model.logit_scale.exp()

    def loss() -> float:
        with torch.no_grad():
            logits = scale * shots.x @ choose_shift.text_features(model, prompts).t()
        return torch.nn.functional.cross_entropy(logits, shots.y).item()

    before = loss()
    choose_shift.tune_context(model, prompts, shots, seed=1)
    assert loss() < before
