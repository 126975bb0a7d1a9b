"""Samplers: contents of a batch, length of an epoch, and source of randomness."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.datasets import Datum
from dassl.data.samplers import (
    BatchSlices,
    BatchTurns,
    RandomClassSampler,
    RandomDomainSampler,
    SeqDomainSampler,
    build_sampler,
)
from dassl.utils import UsageError


def images(sizes, field):
    """Return ``sizes[k]`` images of each domain or class k, interleaved."""
    keys = [key for n in range(max(sizes)) for key, size in enumerate(sizes) if n < size]
    return [Datum(f"{n}.jpg", **{field: key}) for n, key in enumerate(keys)]


def batches(sampler, source, size, field):
    """Return the keys of each batch of an epoch, after checking its length."""
    order = list(sampler)
    assert len(order) == len(sampler)
    assert len(order) % size == 0
    keys = [getattr(source[index], field) for index in order]
    return order, [keys[start : start + size] for start in range(0, len(keys), size)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_domain_batches_contain_all_domains_evenly():
    source = images([9, 5, 7], "domain")
    sampler = RandomDomainSampler(source, batch_size=6, n_domain=0, generator=generator())
    order, found = batches(sampler, source, 6, "domain")
    assert [sorted(batch) for batch in found] == [[0, 0, 1, 1, 2, 2]] * 2
    assert len(set(order)) == len(order)


def test_domain_batches_of_some_domains():
    source = images([6, 6, 6, 6], "domain")
    sampler = RandomDomainSampler(source, batch_size=6, n_domain=2, generator=generator())
    order, found = batches(sampler, source, 6, "domain")
    assert all(sorted(Counter(batch).values()) == [3, 3] for batch in found)
    assert sorted(order) == list(range(24))


def test_sequential_domains_come_in_order():
    source = images([4, 4], "domain")
    sampler = SeqDomainSampler(source, batch_size=4, generator=generator())
    order, found = batches(sampler, source, 4, "domain")
    assert found == [[0, 0, 1, 1]] * 2
    assert order != sorted(order)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=6),
    n_ins=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_class_batches(sizes, n_ins, seed):
    source = images(sizes, "label")
    sampler = RandomClassSampler(source, 3 * n_ins, n_ins, generator=generator(seed))
    order, found = batches(sampler, source, 3 * n_ins, "label")
    assert found
    assert all(sorted(Counter(batch).values()) == [n_ins] * 3 for batch in found)
    full = [index for index in order if sizes[source[index].label] >= n_ins]
    assert len(set(full)) == len(full), "an image was repeated although there were enough"


def test_small_classes_repeat_images():
    source = images([1, 1], "label")
    order = list(RandomClassSampler(source, batch_size=6, n_ins=3, generator=generator()))
    assert Counter(order) == {0: 3, 1: 3}


SAMPLERS = pytest.mark.parametrize(
    ("name", "batch_size"),
    [
        ("RandomSampler", 4),
        ("RandomDomainSampler", 4),
        ("SeqDomainSampler", 4),
        ("RandomClassSampler", 4),
    ],
)


def build(name, batch_size, seed):
    source = [Datum(f"{n}.jpg", label=n % 5, domain=n % 2) for n in range(40)]
    return build_sampler(
        name, data_source=source, batch_size=batch_size, n_ins=2, generator=generator(seed)
    )


@SAMPLERS
def test_order_is_a_function_of_the_generator(name, batch_size):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first, second = (list(build(name, batch_size, seed=1)) for _ in range(2))
    assert first == second
    assert first != list(build(name, batch_size, seed=2))
    assert torch.equal(torch.get_rng_state(), state)


@SAMPLERS
def test_epochs_differ_and_are_equally_long(name, batch_size):
    sampler = build(name, batch_size, seed=1)
    first, second = list(sampler), list(sampler)
    assert first != second
    assert len(first) == len(second) == len(sampler)


def test_sequential_sampler():
    assert list(build("SequentialSampler", 4, seed=1)) == list(range(40))


def test_unknown_sampler_names_the_nearest():
    with pytest.raises(UsageError, match=r"unknown sampler 'RandSampler': did you mean 'Random"):
        build_sampler("RandSampler", data_source=images([1], "label"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomDomainSampler(images([4, 4], "domain"), 5, 2), "evenly among 2 domains"),
        (lambda: SeqDomainSampler(images([4, 1], "domain"), 4), "domain 1 has 1 images"),
        (lambda: RandomDomainSampler(images([4, 4], "domain"), 3, 3), "3 groups .* from 2"),
        (lambda: RandomClassSampler(images([4, 4], "label"), 8, 2), "4 groups .* from 2"),
        (lambda: RandomClassSampler(images([4, 4], "label"), 2, 3), "N_INS must be from 1 to"),
    ],
)
def test_batch_sizes_that_the_data_cannot_fill_raise(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def parts(kind, images, size, count):
    """Return the samples of each of ``count`` processes, after checking their lengths."""
    order = torch.randperm(images, generator=generator()).tolist()
    samplers = [kind(order, size, rank, count) for rank in range(count)]
    drawn = [list(sampler) for sampler in samplers]
    assert [len(part) for part in drawn] == [len(sampler) for sampler in samplers]
    return order, drawn


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 4))
def test_slices_of_the_processes_form_the_batches_of_one_process(images, share, count):
    size = share * count
    order, drawn = parts(BatchSlices, images, size, count)
    steps = images // size
    whole = [
        image for step in range(steps) for part in drawn for image in part[step * share :][:share]
    ]
    assert whole == order[: steps * size]


@given(st.integers(0, 50), st.integers(1, 9), st.integers(1, 5))
def test_processes_take_whole_batches_in_turn(images, size, count):
    order, drawn = parts(BatchTurns, images, size, count)
    batches = [order[start : start + size] for start in range(0, images, size)]
    for rank, part in enumerate(drawn):
        expected = batches[rank::count]
        assert [part[i * size :][:size] for i in range(len(expected))] == expected
        assert len(part) == sum(map(len, expected))
