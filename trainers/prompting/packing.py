"""Pack prompts of different lengths into rows of the text encoder, and limit how many run at once.

Padding every prompt to the longest one would take most of the time: names of the 1000 ImageNet
classes have 3 tokens on average, and the longest has 12. Here a row contains several prompts, which
a mask separates, and every token has the position of its own prompt, so the result equals that of
one prompt per row (docs/method.md, "Exact identities").
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PackedPart", "Packing", "automatic_chunk"]

# Tokens per row, unless a prompt is longer. Longer rows have less padding, shorter ones less masked
# attention between prompts.
ROW = 64
# Upper bound of what autograd saves per token and block with frozen weights, in encoder widths: the
# inputs of two layer norms (4, in float32), queries, keys, values and their copies after the prefix
# (6), the attended values (2), the MLP's hidden layer and its sigmoid (8). A test measures it.
WIDTHS_PER_TOKEN = 20
# Assumed free memory of a CPU. A constant makes chunks and their rounding reproducible.
CPU_MEMORY = 8 * 2**30


class PackedPart(nn.Module):
    """R rows of S tokens with the prompts ``first`` to ``first + n``, after a shared prefix.

    The prefix has ``start`` (p) tokens, the n prompts have ``lengths`` after it, including EOT, and
    the tensor of embeddings (C, L, W) has ``columns`` (L).
    """

    # (R, S), the index of each token among all C L embeddings; padding is a real token.
    take: Tensor
    position: Tensor  # (R, S), of each token in its own prompt
    mask: Tensor  # (R, 1, S, p + S), True for the prefix and preceding tokens of the same prompt
    slots: Tensor  # (R, Q), columns of the EOT tokens; rows with fewer repeat column 0
    order: Tensor  # (n,), the index of each prompt's EOT in the R Q slots
    owner: Tensor  # (R, S), the prompt of each token among all C; -1 for padding
    prompts: Tensor  # (R, Q), the prompts of each row among all C; -1 in rows with fewer

    def __init__(self, lengths: Sequence[int], start: int, columns: int, first: int) -> None:
        super().__init__()
        rows, size = _pack(lengths)
        take = torch.full((len(rows), size), first * columns)
        position = torch.full((len(rows), size), start)
        owner = torch.full((len(rows), size), -1)  # padding belongs to no prompt
        slots = torch.zeros(len(rows), max(len(row) for row in rows), dtype=torch.long)
        order = torch.zeros(len(lengths), dtype=torch.long)
        prompts = torch.full_like(slots, -1)
        for r, row in enumerate(rows):
            begin = 0
            for slot, prompt in enumerate(row):
                end = begin + lengths[prompt]
                tokens = torch.arange(lengths[prompt])
                take[r, begin:end] = (first + prompt) * columns + tokens
                position[r, begin:end] = start + tokens
                owner[r, begin:end] = prompts[r, slot] = first + prompt
                slots[r, slot] = end - 1
                order[prompt] = r * slots.shape[1] + slot
                begin = end
        mask = (owner[:, :, None] == owner[:, None, :]) & torch.ones(size, size).tril().bool()
        seen = torch.ones(len(rows), size, start, dtype=torch.bool)
        mask = torch.cat([seen, mask], 2)[:, None]
        buffers = {"take": take, "position": position, "mask": mask, "slots": slots, "order": order}
        buffers |= {"owner": owner, "prompts": prompts}
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)


class Packing(nn.Module):
    """C prompts in one or several parts, each run through the text encoder at once.

    ``lengths`` count the tokens of each prompt from SOS to EOT, ``start`` those of a shared prefix.
    """

    def __init__(
        self, lengths: Sequence[int], start: int = 0, max_prompts: int | None = None
    ) -> None:
        super().__init__()
        self.lengths = [length - start for length in lengths]
        self.start = start
        self.set_max_prompts(max_prompts or len(lengths))

    def set_max_prompts(self, max_prompts: int) -> None:
        """Run at most ``max_prompts`` >= 1 prompts at once."""
        self.max_prompts = max_prompts
        self.columns = columns = max(self.lengths)
        device = next(iter(self.buffers())).device if hasattr(self, "parts") else None
        size = min(max_prompts, len(self.lengths))
        self.parts = nn.ModuleList(
            PackedPart(self.lengths[first : first + size], self.start, columns, first)
            for first in range(0, len(self.lengths), size)
        ).to(device)

    @property
    def eot(self) -> list[int]:
        """The position of each prompt's EOT, including the prefix."""
        return [self.start + length - 1 for length in self.lengths]

    @property
    def groups(self) -> int:
        """The number of prefixes (images in CoCoOp) that may run at once, at least one."""
        return max(1, self.max_prompts // len(self.lengths))

    def __iter__(self) -> Iterator[PackedPart]:
        return iter(self.parts)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"prompts={len(self.lengths)}, start={self.start}, max_prompts={self.max_prompts}"


def _pack(lengths: Sequence[int]) -> tuple[list[list[int]], int]:
    """Return rows of prompts and their length: the fewest rows for `ROW`, as short as possible."""
    total, longest = sum(lengths), max(lengths)
    count = -(-total // max(ROW, longest))
    size = max(longest, -(-total // count))
    while len(rows := _best_fit(lengths, size)) > count:
        size += 1
    return rows, size


def _best_fit(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Fill rows of ``size`` tokens by best fit, the longest prompts first."""
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(size + 1)]  # rows by their free tokens
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
    """Return the largest power of two of prompts with activations in half of the free memory.

    The other half is for images, text features, the refiner and errors of the estimate. ``tokens``
    is the length of a prompt without the prefix; a CPU has `CPU_MEMORY`.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_MEMORY
    width = clip_model.ln_final.weight.shape[0]
    blocks = len(clip_model.transformer.resblocks)
    prompt = tokens * blocks * width * WIDTHS_PER_TOKEN * clip_model.dtype.itemsize
    return 1 << max(1, int(free / 2 / prompt)).bit_length() - 1
