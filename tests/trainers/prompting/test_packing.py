"""Packed prompts: every token occurs once and attends only to its own prompt."""

import random

import pytest
import torch

from trainers.prompting.packing import ROW, PackedPart, Packing

COLUMNS = 80


def lengths_of(count, seed=0):
    generator = random.Random(seed)
    return [generator.choice([3, 3, 4, 4, 4, 5, 6, 9, 17]) for _ in range(count)]


@pytest.mark.parametrize("lengths", [[5], [3, 77], lengths_of(40), lengths_of(300, 1), [70] * 4])
@pytest.mark.parametrize("start", [0, 5])
def test_every_token_occurs_once_and_attends_to_earlier_tokens_of_its_prompt(lengths, start):
    part = PackedPart(lengths, start, COLUMNS, first=2)
    rows, size = part.take.shape
    slots = part.slots.shape[1]
    seen = set()
    for prompt, length in enumerate(lengths):
        row, slot = divmod(int(part.order[prompt]), slots)
        end = int(part.slots[row, slot])
        places = range(end - length + 1, end + 1)
        for t, place in enumerate(places):
            assert part.take[row, place] == (2 + prompt) * COLUMNS + t
            assert part.position[row, place] == start + t
            looks = part.mask[row, 0, place].nonzero().flatten().tolist()
            assert looks == [*range(start), *(start + p for p in places[: t + 1])]
        assert seen.isdisjoint((row, place) for place in places)
        seen |= {(row, place) for place in places}
    assert part.mask.any(-1).all(), "padding must see something, or its softmax is NaN"
    assert len(seen) == sum(lengths)
    assert size <= max(ROW, *lengths) * 1.5
    assert rows * size <= 1.15 * sum(lengths) + max(lengths)


def test_parts_do_not_exceed_their_limit():
    packing = Packing([8] * 10, start=5, max_prompts=4)
    assert [len(part.order) for part in packing] == [4, 4, 2]
    assert packing.groups == 1
    packing.set_max_prompts(25)
    assert [len(part.order) for part in packing] == [10]
    assert packing.groups == 2
    assert packing.eot == [7] * 10
    assert not packing.state_dict(), "class names are no part of a checkpoint"


def test_long_name_adds_only_its_own_tokens():
    part = PackedPart([3] * 999 + [12], 5, 12, 0)
    assert part.take.numel() <= 1.05 * (999 * 3 + 12)
    assert part.take.dtype == torch.long
