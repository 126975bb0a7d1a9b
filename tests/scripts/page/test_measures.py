"""The numbers of the report against naive loops."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from scripts.page.cache import NearestPatches
from scripts.page.calibration import expected_error, reliability_bins
from scripts.page.confusion import most_confused, shown_classes
from scripts.page.curves import read_scalars, thinned
from scripts.page.facts import duration
from scripts.page.saliency import examples
from scripts.page.thumbnails import overlay, patch_box
from scripts.page.words import nearest_rows
from scripts.probing.reads import class_share, cosines_between, entropy
from scripts.probing.settings import changed_settings
from trainers.refiner import LocalCache


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
    random.seed(0)


def test_calibration_error_equals_a_naive_one() -> None:
    confidence = np.array([random.random() for _ in range(500)] + [0.0, 1.0, 0.2, 0.4])
    correct = np.array([random.random() < 0.7 for _ in range(504)])
    bins = reliability_bins(confidence, correct, bins=5)
    total = 0.0
    for i in range(5):
        inside = [
            k for k, c in enumerate(confidence) if i / 5 < c <= (i + 1) / 5 or (i == 0 and c == 0)
        ]
        accuracy = sum(correct[k] for k in inside) / len(inside)
        mean = sum(confidence[k] for k in inside) / len(inside)
        assert bins[i].images == len(inside)
        assert bins[i].accuracy == pytest.approx(accuracy)
        assert bins[i].confidence == pytest.approx(mean)
        total += len(inside) / 504 * abs(accuracy - mean)
    assert expected_error(bins) == pytest.approx(total)


def test_perfect_and_worst_calibration() -> None:
    sure = np.ones(4)
    assert expected_error(reliability_bins(sure, np.ones(4, bool))) == 0
    assert expected_error(reliability_bins(sure, np.zeros(4, bool))) == 1
    bins = reliability_bins(sure, np.ones(4, bool))
    assert [row.images for row in bins] == [0] * 14 + [4]
    assert bins[0].accuracy is None


def test_entropy_weights_share_and_cosines() -> None:
    text, cache = torch.randn(4, 6), LocalCache(5, 6, scale=3.0)
    entries, weights = cache.entries, cache.weights(text)
    for c in range(4):
        powers = [math.exp(3 * float(text[c] @ entry)) for entry in entries]
        expected = [power / sum(powers) for power in powers]
        assert weights[c].tolist() == pytest.approx(expected, rel=1e-5)
        naive = -sum(w * math.log(w) for w in expected)
        assert float(entropy(weights)[c]) == pytest.approx(naive, rel=1e-5)
    assert float(entropy(torch.tensor([1.0, 0.0]))) == 0
    assert float(entropy(torch.full((8,), 1 / 8))) == pytest.approx(math.log(8))

    read = torch.randn(3, 4, 6)  # of 3 images
    for image, share in zip(read, class_share(read), strict=True):
        mean = sum(image) / 4
        above = sum(float((row - mean) @ (row - mean)) for row in image)
        below = sum(float(row @ row) for row in image)
        assert float(share) == pytest.approx(math.sqrt(above / below), rel=1e-5)
    assert float(class_share(torch.ones(4, 6))) == 0

    expected = [
        float(text[i] @ text[j] / text[i].norm() / text[j].norm())
        for i in range(4)
        for j in range(i + 1, 4)
    ]
    assert cosines_between(text).tolist() == pytest.approx(expected, abs=1e-6)
    assert cosines_between(read).shape == (3, 6)


def test_most_confused_pairs() -> None:
    counts = np.array([[9, 1, 0], [4, 5, 1], [0, 3, 7]])
    assert most_confused(counts) == [(1, 0, 4), (2, 1, 3), (0, 1, 1), (1, 2, 1)]
    assert most_confused(counts, limit=1) == [(1, 0, 4)]
    assert most_confused(np.diag([3, 4])) == []
    # errors of true and predicted class: 0: 1 + 4, 1: 5 + 4, 2: 3 + 1
    assert shown_classes(counts, limit=2) == [0, 1]


def test_nearest_words_equal_a_loop_and_leave_out_zero_rows() -> None:
    table = torch.randn(50, 8)
    table[::3] = 0
    tokens = torch.randn(3, 8) / 10  # zero rows would be the nearest
    distances, ids = nearest_rows(tokens, table, 4)
    for token, near, found in zip(tokens, distances, ids, strict=True):
        pairs = sorted((float((token - table[i]).norm()), i) for i in range(50) if i % 3)
        assert found.tolist() == [i for _, i in pairs[:4]]
        assert near.tolist() == pytest.approx([d for d, _ in pairs[:4]], rel=1e-5)


def test_nearest_patches_equal_a_loop() -> None:
    entries = torch.nn.functional.normalize(torch.randn(5, 8), dim=-1)
    local = torch.randn(7, 1 + 9, 8)
    found = NearestPatches(entries, keep=3)
    for batch in local.split(3):
        found.add(batch)
    unit = torch.nn.functional.normalize(local, dim=-1)
    counts, best = [0] * 5, [[] for _ in range(5)]
    for i in range(7):
        for p in range(10):
            cosines = [float(unit[i, p] @ entry) for entry in entries]
            counts[cosines.index(max(cosines))] += 1
        for j in range(5):
            best[j].append(max((float(unit[i, p] @ entries[j]), i, p - 1) for p in range(1, 10)))
    assert found.counts.tolist() == counts
    for j in range(5):
        expected = sorted(best[j], reverse=True)[:3]
        assert [row[1:] for row in found.nearest(j)] == [row[1:] for row in expected]
        cosines = [row[0] for row in found.nearest(j)]
        assert cosines == pytest.approx([row[0] for row in expected], abs=1e-6)


def test_fewer_images_than_patches_are_kept() -> None:
    found = NearestPatches(torch.eye(2), keep=4)
    found.add(torch.randn(1, 3, 2))
    assert len(found.nearest(0)) == 1


def test_curves_of_a_resumed_run(tmp_path: Path) -> None:
    for start, shift in ((0, 0.0), (3, 100.0)):  # the second repeats steps 3 and 4
        with SummaryWriter(log_dir=str(tmp_path), filename_suffix=f".{start}") as writer:
            for step in range(start, start + 5):
                writer.add_scalar("train/loss", step + shift, step)
    points = read_scalars(tmp_path)["train/loss"]
    assert points == [*((i, float(i)) for i in range(3)), *((i, 100.0 + i) for i in range(3, 8))]
    assert read_scalars(tmp_path / "nowhere") == {}


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    with SummaryWriter(log_dir=str(tmp_path)) as writer:
        for step, value in enumerate((1.0, math.nan, math.inf, 2.0)):
            writer.add_scalar("train/loss", value, step)
    assert read_scalars(tmp_path) == {"train/loss": [(0, 1.0), (3, 2.0)]}


def test_thinned_keeps_the_ends() -> None:
    points = [(i, float(i)) for i in range(1000)]
    few = thinned(points, 11)
    assert len(few) == 11
    assert (few[0], few[-1]) == (points[0], points[-1])
    assert thinned(points[:5], 11) == points[:5]


def test_patches_are_counted_by_rows() -> None:
    assert patch_box(0, 16, 32) == (0, 0, 8, 8)
    assert patch_box(3, 16, 32) == (24, 0, 32, 8)
    assert patch_box(6, 16, 32) == (16, 8, 24, 16)


def test_overlay_keeps_salient_patches_and_darkens_others() -> None:
    from PIL import Image

    picture = Image.new("RGB", (4, 4), (200, 200, 200))
    shown = overlay(picture, np.array([[0.5, 0.0], [0.0, 0.25]]))
    values = [shown.getpixel((x, y))[0] for x, y in ((0, 0), (2, 0), (2, 2))]
    assert values[0] == 200
    assert values[1] == 40
    assert 40 < values[2] < 200


def test_examples_are_right_and_wrong() -> None:
    labels, predicted = np.zeros(20, int), np.array([0] * 15 + [1] * 5)
    chosen = examples(labels, predicted, 3)
    assert chosen == [0, 7, 14, 15, 17, 19]
    assert examples(labels, np.zeros(20, int), 2) == [0, 19]


def test_duration() -> None:
    assert duration(None) == "not recorded"
    assert duration(0.2) == "0 s"
    assert duration(61.4) == "1 min 1 s"
    assert duration(7200) == "2 h"


def test_only_changed_settings_are_listed() -> None:
    from dassl.config import get_cfg_default
    from trainers.settings import extend_cfg

    cfg = get_cfg_default()
    extend_cfg(cfg)
    assert changed_settings(cfg) == {}
    cfg.OPTIM.LR = 0.5
    cfg.OUTPUT_DIR = "somewhere"
    cfg.TRAINER.TEXTREFINER.CACHE_SIZE = 3
    assert changed_settings(cfg) == {"OPTIM.LR": 0.5, "TRAINER.TEXTREFINER.CACHE_SIZE": 3}
