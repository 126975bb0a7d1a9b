"""Compare the refiner with loops and values computed by hand; gradients and invariances."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from trainers.refiner import FeatureAlignment, LocalCache, TextRefiner, updated_entries


def naive_update(entries, tokens, momentum):
    """Compute "Write" of method.md one token and one entry at a time."""
    units = [token / token.norm() for token in tokens]
    rows = []
    for j, entry in enumerate(entries):
        peak = max(float(unit @ entry) for unit in units)
        total, hit = torch.zeros_like(entry), False
        for unit in units:
            scores = [float(unit @ other) for other in entries]
            if scores.index(max(scores)) == j:
                total = total + math.exp(scores[j] - peak) * unit
                hit = True
        row = momentum * entry + (1 - momentum) * total if hit else entry
        rows.append(row / row.norm())
    return torch.stack(rows)


def unit_rows(size, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.rand(size, dim, generator=generator, dtype=torch.float64), dim=-1)


def random_tokens(count, dim, seed):
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(count, dim, generator=generator, dtype=torch.float64)


shapes = st.tuples(
    st.integers(1, 9), st.integers(1, 7), st.integers(2, 12), st.integers(0, 2**16)
)  # tokens, entries, width, seed


@given(shapes, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_update_equals_the_loops(shape, momentum):
    count, size, dim, seed = shape
    entries, tokens = unit_rows(size, dim, seed), random_tokens(count, dim, seed)
    expected = naive_update(entries, tokens, momentum)
    torch.testing.assert_close(
        updated_entries(entries, tokens, momentum), expected, rtol=0, atol=1e-9
    )


@given(shapes)
@settings(max_examples=40, deadline=None)
def test_update_does_not_depend_on_order_or_length_of_tokens(shape):
    count, size, dim, seed = shape
    entries, tokens = unit_rows(size, dim, seed), random_tokens(count, dim, seed)
    expected = updated_entries(entries, tokens, 0.8)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    scale = torch.rand(count, 1, dtype=torch.float64) + 0.5
    torch.testing.assert_close(updated_entries(entries, (tokens * scale)[order], 0.8), expected)
    rows = torch.randperm(size, generator=torch.Generator().manual_seed(seed + 1))
    torch.testing.assert_close(updated_entries(entries[rows], tokens, 0.8), expected[rows])
    torch.testing.assert_close(expected.norm(dim=-1), torch.ones(size, dtype=torch.float64))


def test_update_by_hand():
    # Entry 0 = x owns tokens x and (0.8, 0.6); entry 1 = y owns (0, 2) -> y. All peaks are 1:
    # token x scores 1 on entry 0 (weight 1), (0.8, 0.6) scores 0.8 (weight e^-0.2).
    entries = torch.eye(2)
    tokens = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 2.0]])
    w = math.exp(-0.2)
    first = torch.tensor([0.8 + 0.2 * (1 + 0.8 * w), 0.2 * 0.6 * w])
    expected = torch.stack([first / first.norm(), torch.tensor([0.0, 1.0])])
    torch.testing.assert_close(updated_entries(entries, tokens, 0.8), expected)


def test_the_maximum_runs_over_all_tokens():
    # Both tokens are nearest to entry 0; entry 1 keeps its direction though it scores on them.
    # Token b owns entry 0 with 0.8, its peak 1.0 comes from token a.
    entries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.8, 0.6])
    both = updated_entries(entries, torch.stack([a, b]), 0.5)
    alone = updated_entries(entries, b[None], 0.5)
    by_hand = 0.5 * entries[0] + 0.5 * (a + math.exp(0.8 - 1.0) * b)
    torch.testing.assert_close(both[0], by_hand / by_hand.norm())
    by_hand = 0.5 * entries[0] + 0.5 * b  # alone, b is its own peak
    torch.testing.assert_close(alone[0], by_hand / by_hand.norm())
    assert torch.equal(both[1], entries[1])


def test_momentum_one_keeps_and_zero_replaces():
    entries, tokens = torch.eye(2), torch.tensor([[3.0, 1.0]])
    torch.testing.assert_close(updated_entries(entries, tokens, 1.0), entries)
    torch.testing.assert_close(
        updated_entries(entries, tokens, 0.0)[0], F.normalize(tokens[0], dim=0)
    )


def test_read_by_hand():
    cache = LocalCache(2, 2)
    cache.entries = torch.eye(2)
    w = math.exp(1) / (math.exp(1) + 1)  # softmax of (1, 0)
    torch.testing.assert_close(cache.read(torch.tensor([[1.0, 0.0]])), torch.tensor([[w, 1 - w]]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_cache_stays_float32_for_any_input(dtype):
    cache = LocalCache(5, 8)
    cache.update(torch.randn(2, 3, 8).to(dtype))
    assert cache.entries.dtype == torch.float32
    read = cache.read(torch.randn(4, 8).to(dtype))
    assert read.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_autocast_does_not_reach_the_cache():
    cache, tokens, query = LocalCache(5, 8), torch.randn(6, 8), torch.randn(4, 8)
    other = LocalCache(5, 8)
    other.load_state_dict(cache.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cache.update(tokens)
        inside = cache.read(query)
    other.update(tokens)
    assert torch.equal(cache.entries, other.entries)
    assert torch.equal(inside, other.read(query))


def test_update_rebinds_the_buffer():
    cache = LocalCache(4, 6)
    before, copy = cache.entries, cache.entries.clone()
    query = torch.randn(3, 6, requires_grad=True)
    read = cache.read(query)
    cache.update(torch.randn(10, 6))
    assert torch.equal(before, copy)
    assert not torch.equal(cache.entries, copy)
    read.sum().backward()  # autograd still references the rows that were read
    assert query.grad is not None
    assert not cache.entries.requires_grad
    assert list(cache.state_dict()) == ["entries"]


def test_update_never_waits_for_the_device():
    # Fake tensors have no values: anything that reads one on the host raises.
    with FakeTensorMode():
        cache = LocalCache(4, 6)
        cache.update(torch.randn(2, 5, 6))
        cache.read(torch.randn(3, 6))


def test_empty_cache_reads_zeros_and_ignores_writes():
    cache = LocalCache(0, 6)
    cache.update(torch.randn(3, 6))
    assert cache.entries.shape == (0, 6)
    assert torch.equal(cache.read(torch.randn(2, 5, 6)), torch.zeros(2, 5, 6))


def test_refine_matches_the_equation_and_its_gradients_are_correct():
    refiner = TextRefiner(token_dim=5, dim=4, cache_size=3, alpha=0.3).double()
    text = F.normalize(torch.randn(6, 4, dtype=torch.float64), dim=-1).requires_grad_()
    entries, weight = refiner.cache.entries, refiner.aggregate.weight
    for c in range(6):
        mix = [math.exp(float(text[c].detach() @ entry)) for entry in entries]
        read = sum(m / sum(mix) * entry for m, entry in zip(mix, entries, strict=True))
        expected = text[c] + 0.3 * weight @ torch.cat([text[c], read])
        torch.testing.assert_close(refiner(text)[c], expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(refiner, (text,))


def test_refine_works_per_image():
    refiner = TextRefiner(token_dim=5, dim=4)
    text = F.normalize(torch.randn(2, 6, 4), dim=-1)
    torch.testing.assert_close(refiner.refine(text)[1], refiner.refine(text[1]))


def test_refine_equals_forward_and_settings_are_keywords():
    refiner, text = TextRefiner(token_dim=5, dim=4), torch.randn(6, 4)
    assert torch.equal(refiner.refine(text), refiner(text))
    with pytest.raises(TypeError):
        TextRefiner(5, 4, 25)


def test_alpha_zero_changes_nothing():
    text = F.normalize(torch.randn(6, 4), dim=-1)
    assert torch.equal(TextRefiner(4, 4, alpha=0.0).refine(text), text)


def test_alignment_normalizes_over_all_rows():
    align = FeatureAlignment(5, 4).double()
    tokens = torch.randn(3, 7, 5, dtype=torch.float64)
    linear = tokens.reshape(-1, 5) @ align.inner.weight.T + align.inner.bias
    rows = (linear - linear.mean(0)) / (linear.var(0, unbiased=False) + 1e-5).sqrt()
    rows = rows * align.norm.weight + align.norm.bias
    expected = rows.clamp(min=0) @ align.outer.weight.T + align.outer.bias
    torch.testing.assert_close(align(tokens), expected.view(3, 7, 4))
    torch.testing.assert_close(align.norm.running_mean, 0.1 * linear.mean(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 4), "size >= 0"), ((3, 4, 1.5), "momentum must be in")],
)
def test_invalid_cache_settings_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        LocalCache(*arguments)


def test_empty_tokens_raise():
    with pytest.raises(ValueError, match="at least one"):
        LocalCache(3, 4).update(torch.empty(0, 4))
