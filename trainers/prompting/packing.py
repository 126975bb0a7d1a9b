"""Prompts of different lengths packed into rows of the text tower, and how many run at once.

A text tower that pads every prompt to the longest one spends most of its time on padding: of 1000
ImageNet classes the names have 3 tokens on average, the longest 12. Here several prompts lie behind
each other in one row, a mask keeps them apart, and every token keeps the position that it has in
its own prompt, so that the result is that of one prompt a row (docs/method.md, "Exact
identities").
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PackedPart", "Packing", "automatic_chunk"]

# Tokens of a row, unless a prompt is longer: a longer row has less padding, a shorter one less
# attention between prompts that the mask keeps apart.
ROW = 64
# What autograd keeps of a token in a block with frozen weights, in widths of the tower, at most:
# the inputs of two layer norms (4, in float32), queries, keys, values and their copies behind the
# prefix (6), the attended values (2), the MLP's hidden layer and its sigmoid (8). A test measures.
WIDTHS_PER_TOKEN = 20
# Taken as the free memory of a CPU, so that neither the chunks nor their rounding depend on what
# else is running: training on a CPU can be repeated to the bit.
CPU_MEMORY = 8 * 2**30


class PackedPart(nn.Module):
    """R rows of S tokens that hold the prompts ``first`` to ``first + n``, after a shared prefix.

    Args:
        lengths: tokens of each prompt after the prefix, EOT included; n of them.
        start: p, tokens of the prefix.
        columns: L, tokens of a prompt in the tensor (C, L, W) of embeddings.
        first: the first of these prompts among the C.

    Attributes:
        take: (R, S), the index of each token among all C L embeddings; padding takes a real token.
        position: (R, S), the position of each token in its own prompt.
        mask: (R, 1, S, p + S), True where a token may look: the prefix and its own prompt's past.
        slots: (R, Q), the EOT tokens of each row as columns; rows with fewer repeat column 0.
        order: (n,), where in the (R Q) slots each prompt's EOT is.
    """

    take: Tensor
    position: Tensor
    mask: Tensor
    slots: Tensor
    order: Tensor

    def __init__(self, lengths: Sequence[int], start: int, columns: int, first: int) -> None:
        super().__init__()
        rows, size = _pack(lengths)
        take = torch.full((len(rows), size), first * columns)
        position = torch.full((len(rows), size), start)
        owner = torch.full((len(rows), size), -1)  # padding belongs to no prompt
        slots = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
        order = torch.zeros(len(lengths), dtype=torch.long)
        for r, row in enumerate(rows):
            begin = 0
            for slot, prompt in enumerate(row):
                end = begin + lengths[prompt]
                tokens = torch.arange(lengths[prompt])
                take[r, begin:end] = (first + prompt) * columns + tokens
                position[r, begin:end] = start + tokens
                owner[r, begin:end] = prompt
                slots[r, slot] = end - 1
                order[prompt] = r * slots.shape[1] + slot
                begin = end
        mask = (owner[:, :, None] == owner[:, None, :]) & torch.ones(size, size).tril().bool()
        seen = torch.ones(len(rows), size, start, dtype=torch.bool)
        self.register_buffer("take", take, persistent=False)
        self.register_buffer("position", position, persistent=False)
        self.register_buffer("mask", torch.cat([seen, mask], 2)[:, None], persistent=False)
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("order", order, persistent=False)


class Packing(nn.Module):
    """C prompts in one or several parts, each of which runs through the text tower at once.

    Args:
        lengths: tokens of each prompt, from SOS to EOT.
        start: p, tokens of the prefix that all prompts share; 0 if they share none.
        most: prompts at once; None for all.
    """

    def __init__(self, lengths: Sequence[int], start: int = 0, most: int | None = None) -> None:
        super().__init__()
        self.lengths = [length - start for length in lengths]
        self.start = start
        self.limit(most or len(lengths))

    def limit(self, most: int) -> None:
        """Let at most ``most`` prompts, at least 1, into the tower at once."""
        self.most = most
        self.columns = columns = max(self.lengths)
        device = next(iter(self.buffers())).device if hasattr(self, "parts") else None
        size = min(most, len(self.lengths))
        self.parts = nn.ModuleList(
            PackedPart(self.lengths[first : first + size], self.start, columns, first)
            for first in range(0, len(self.lengths), size)
        ).to(device)

    @property
    def eot(self) -> list[int]:
        """The position of each prompt's EOT in the whole prompt."""
        return [self.start + length - 1 for length in self.lengths]

    @property
    def groups(self) -> int:
        """How many prefixes (images, in CoCoOp) may be in the tower at once: whole ones, or one."""
        return max(1, self.most // len(self.lengths))

    def __iter__(self) -> Iterator[PackedPart]:
        return iter(self.parts)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"prompts={len(self.lengths)}, start={self.start}, most={self.most}"


def _pack(lengths: Sequence[int]) -> tuple[list[list[int]], int]:
    """Rows of prompts, and the tokens of a row: as few rows as `ROW` allows, as short as they fit.

    Best fit, the longest prompts first.
    """
    total, longest = sum(lengths), max(lengths)
    count = -(-total // max(ROW, longest))
    size = max(longest, -(-total // count))
    while len(rows := _best_fit(lengths, size)) > count:
        size += 1
    return rows, size


def _best_fit(lengths: Sequence[int], size: int) -> list[list[int]]:
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(size + 1)]  # rows by the tokens they have left
    for prompt in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[prompt]
        room = next((room for room in range(length, size + 1) if with_room[room]), None)
        if room is None:
            room = size
            with_room[size].append(len(rows))
            rows.append([])
        row = with_room[room].pop()
        rows[row].append(prompt)
        with_room[room - length].append(row)
    return rows


def automatic_chunk(clip_model: Any, tokens: float, device: torch.device) -> int:
    """The largest power of two of prompts whose activations fill half of the free memory.

    The other half is for images, text features, the refiner and what the estimate misses.

    Args:
        clip_model: its text tower sets the size of an activation.
        tokens: of a prompt, without the prefix.
        device: a GPU is asked what is free; for a CPU it is `CPU_MEMORY`.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_MEMORY
    width = clip_model.ln_final.weight.shape[0]
    blocks = len(clip_model.transformer.resblocks)
    prompt = tokens * blocks * width * WIDTHS_PER_TOKEN * clip_model.dtype.itemsize
    return 1 << max(1, int(free / 2 / prompt)).bit_length() - 1
