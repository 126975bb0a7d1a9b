"""Each measure of a probe against loops in double precision, on toy runs."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.probing.entries import entry_use, token_cosines, token_counts
from scripts.probing.reads import VERSIONS, ReadMeter, random_entries, versions
from scripts.probing.records import Replacement
from scripts.probing.scoring import Scores, replacements, statistics
from tests.scripts.probing import naive
from tests.trainers.classifier.runs import Runs
from trainers.refiner import LocalCache
from trainers.refiner_controls import ControlledRefiner, Controls

METHODS = ("TextRefinerCoOp", "TextRefinerCoCoOp", "TextRefinerMaPLe")
SHARP = ("TRAINER.TEXTREFINER.READ_SCALE", 30.0)  # so that the reads differ between classes
EXACT = {"rel": 1e-9, "abs": 1e-9}
SEED = 5


def refiner_and_texts(runs: Runs, method: str, *opts: Any) -> tuple[Any, Tensor]:
    """Return a run's refiner in double precision, and its T, (1, C, d) or (B, C, d)."""
    model = runs.trainer(method, *opts).model
    learner, images = model.learner, torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features = learner.image_features(learner.encode_image(images, False))
        text = learner.encode_text(features)
    return copy.deepcopy(model.refiner).double(), text.double().reshape(-1, *text.shape[-2:])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("opts", [(), SHARP], ids=["method", "sharp"])
@pytest.mark.parametrize("method", METHODS)
def test_texts_of_all_versions(method: str, opts: tuple[Any, ...], runs: Runs) -> None:
    refiner, texts = refiner_and_texts(runs, method, *opts)
    with torch.no_grad():
        found = versions(refiner, texts, SEED)
    assert list(found) == list(VERSIONS)
    for i, text in enumerate(texts):
        expected = naive.measures(refiner, text, SEED).versions
        for name in VERSIONS:
            for row, other in zip(found[name][i].tolist(), expected[name], strict=True):
                assert row == pytest.approx(other, **EXACT), name
    different = [found[name] for name in VERSIONS]
    for i, one in enumerate(different):
        assert not any(torch.equal(one, two) for two in different[:i])


@pytest.mark.parametrize("opts", [(), SHARP], ids=["method", "sharp"])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_texts_read(method: str, opts: tuple[Any, ...], runs: Runs) -> None:
    refiner, texts = refiner_and_texts(runs, method, *opts)
    meter = ReadMeter(refiner)
    for part in texts.split(2):
        meter.add(part)
    classes = [f"class {c}" for c in range(texts.shape[1])]
    found = statistics(meter, classes)
    size = len(refiner.cache.entries)
    all_ = [naive.measures(refiner, text, SEED) for text in texts]
    assert found.texts == len(texts) == (3 if method == "TextRefinerCoCoOp" else 1)
    weights = [w for one in all_ for row in one.weights for w in row]
    assert found.weight_min == pytest.approx(size * min(weights), **EXACT)
    assert found.weight_max == pytest.approx(size * max(weights), **EXACT)
    for c, row in enumerate(found.classes):
        expected = sum(naive.entropy(one.weights[c]) for one in all_) / len(all_)
        assert row.name == classes[c]
        assert row.entropy == pytest.approx(expected, **EXACT)
        assert row.relative_entropy == pytest.approx(expected / math.log(size), **EXACT)
    mean = sum(row.entropy for row in found.classes) / len(classes)
    assert found.mean_entropy == pytest.approx(mean, **EXACT)
    assert found.relative_entropy == pytest.approx(mean / math.log(size), **EXACT)
    shares = [naive.share(one.read) for one in all_]
    assert found.share == pytest.approx(sum(shares) / len(all_), **EXACT)
    shares = [naive.share(one.added) for one in all_]
    assert found.added_share == pytest.approx(sum(shares) / len(all_), **EXACT)
    cosines = [
        naive.cosine(one.read[i], one.read[j])
        for one in all_
        for i in range(len(classes))
        for j in range(i)
    ]
    assert found.cosine_min == pytest.approx(min(cosines), **EXACT)
    assert found.cosine_mean == pytest.approx(sum(cosines) / len(cosines), **EXACT)
    assert found.cosine_max == pytest.approx(max(cosines), **EXACT)


def test_random_entries_are_an_untrained_cache() -> None:
    torch.manual_seed(SEED)
    assert torch.equal(random_entries(torch.empty(7, 4), SEED), LocalCache(7, 4).entries)
    assert not torch.equal(random_entries(torch.empty(7, 4), 6), LocalCache(7, 4).entries)


@pytest.mark.parametrize(
    ("controls", "adds"),
    [
        ({"aggregate": "text"}, False),
        ({"zero_start": True}, False),
        ({"aggregate": "read"}, True),
        ({"rank": 2}, True),
        ({"renormalize": True}, True),
    ],
)
def test_controls(controls: dict[str, Any], adds: bool) -> None:
    refiner = ControlledRefiner(6, 4, controls=Controls(**controls), cache_size=3).double()
    text = torch.nn.functional.normalize(torch.randn(5, 4, dtype=torch.double), dim=-1)
    meter = ReadMeter(refiner)
    meter.add(text)
    found = statistics(meter, list("abcde"))
    assert (found.added_share is not None) == adds
    with torch.no_grad():
        changed = versions(refiner, text)
        one = refiner.added(text, refiner.read(text))
        two = refiner.added(torch.zeros_like(text), refiner.read(text))
        rest = refiner.added(text, torch.zeros_like(text))
    torch.testing.assert_close(one, two + rest, rtol=1e-9, atol=1e-12)
    if adds:
        assert found.added_share == pytest.approx(naive.share(two.tolist()), **EXACT)
    else:
        for name in ("mean", "zero", "cache_mean", "random"):
            torch.testing.assert_close(changed[name], changed["model"], rtol=0, atol=0)


def test_without_a_cache_no_read_is_replaced() -> None:
    refiner = ControlledRefiner(6, 4, controls=Controls(), cache_size=0)
    found = versions(refiner, torch.nn.functional.normalize(torch.randn(5, 4), dim=-1))
    assert list(found) == ["model", "plain", "renormalized"]


def test_one_entry_and_one_class() -> None:
    meter = ReadMeter(ControlledRefiner(6, 4, controls=Controls(), cache_size=1))
    meter.add(torch.nn.functional.normalize(torch.randn(1, 4), dim=-1))
    found = statistics(meter, ["only"])
    assert (found.relative_entropy, found.classes[0].relative_entropy) == (None, None)
    assert (found.cosine_min, found.cosine_mean, found.cosine_max) == (None, None, None)
    assert (found.weight_min, found.weight_max, found.share) == (1, 1, 0)


def test_replacements_count_predictions() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    model, other = np.array([0, 1, 2, 1, 0, 1]), np.array([0, 0, 2, 0, 2, 1])
    scores = Scores(np.zeros((6, 3)), labels, [], {"model": model, "zero": other})
    trained, zero = replacements(scores)
    assert trained == Replacement("model", 50.0, 0, 0, 0)
    assert zero == Replacement("zero", 50.0, 3, 1, 1)
    assert replacements(Scores(np.zeros((6, 3)), labels, [])) == []


def test_use_of_the_entries_equals_a_loop() -> None:
    entries = torch.nn.functional.normalize(torch.randn(4, 6, dtype=torch.double), dim=-1)
    before = torch.nn.functional.normalize(torch.randn(4, 6, dtype=torch.double), dim=-1)
    local = torch.randn(3, 5, 6, dtype=torch.double)
    counts = [0] * 4
    for token in local.reshape(-1, 6).tolist():
        cosines = [naive.cosine(token, entry) for entry in entries.tolist()]
        counts[cosines.index(max(cosines))] += 1
    found = token_counts(token_cosines(local, entries))
    assert found.tolist() == counts
    use = entry_use(7, found, entries, before)
    rows = entries.tolist()
    pairs = [naive.cosine(rows[i], rows[j]) for i in range(4) for j in range(i)]
    assert (use.epoch, use.tokens) == (7, counts)
    assert use.cosine_min == pytest.approx(min(pairs), **EXACT)
    assert use.cosine_mean == pytest.approx(sum(pairs) / 6, **EXACT)
    assert use.cosine_max == pytest.approx(max(pairs), **EXACT)
    kept = [naive.cosine(a, b) for a, b in zip(rows, before.tolist(), strict=True)]
    assert use.kept == pytest.approx(sum(kept) / 4, **EXACT)
    single = entry_use(None, torch.tensor([3]), entries[:1], None)
    assert (single.cosine_min, single.kept) == (None, None)
