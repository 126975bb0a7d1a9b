"""Run CLIP's image and text encoders exactly, without work that cannot change the result.

Both functions use the modules of any CLIP with OpenAI's structure (this repository's ``clip`` or
OpenAI's), so no method needs a patched ``clip/``. All savings are exact (docs/method.md, "Exact
identities"):

- in the last block only the pooled row is computed (the query of CLS or EOT);
- attention is fused; attention weights are computed for one row of one block, and only if needed;
- the text encoder is causal: positions after EOT are left out, and a prefix shared by all classes
  (SOS and context) is run once, and its keys and values are used for every class;
- prompts of different lengths are packed into rows instead of being padded.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .prompting.packing import PackedPart, Packing
from .settings import SettingsError

__all__ = [
    "ImageTokens",
    "check_size",
    "encode_image",
    "encode_text",
    "is_vision_transformer",
    "unit",
]

NOTHING: Mapping[int, Tensor] = MappingProxyType({})
Past = tuple[Tensor, ...]  # keys and values (G, heads, p, D) of a block, or nothing


class ImageTokens(NamedTuple):
    """The image encoder's output for B images in the joint space (width d), not normalized.

    pooled: (B, d), the global feature (CLS after ``ln_post`` and ``proj``).
    local: V, (B, 1+P, d), all tokens of the last block; row 0 is CLS. None unless requested.
    saliency: a, (B, P), attention of CLS over the patches in the last block, averaged over heads;
        CLS and prompt columns are dropped, not renormalized. None unless requested.
    second: (B, d), the feature of a second head on inserted tokens (MMRL). None without one.
    """

    pooled: Tensor
    local: Tensor | None = None
    saliency: Tensor | None = None
    second: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "ImageTokens":
        """Apply ``change`` to all parts that are not None."""
        others = (None if part is None else change(part) for part in self[1:])
        return ImageTokens(change(self.pooled), *others)

    def to(self, *args: Any, **kwargs: Any) -> "ImageTokens":
        """Apply `Tensor.to` to all parts."""
        return self.each(lambda part: part.to(*args, **kwargs))


def is_vision_transformer(visual: nn.Module) -> bool:
    """Return whether ``visual`` is a ViT of OpenAI's structure, not a ModifiedResNet."""
    return hasattr(visual, "class_embedding") and hasattr(visual, "transformer")


def unit(features: Tensor) -> Tensor:
    """L2-normalize features (..., d), in float32 or wider."""
    dtype = torch.promote_types(features.dtype, torch.float32)
    return F.normalize(features.to(dtype), dim=-1)


def encode_image(
    visual: Any,
    image: Tensor,
    prompts: Sequence[Tensor] = (),
    local: bool = False,
    inserted: Mapping[int, Tensor] = NOTHING,
    head: Tensor | None = None,
) -> ImageTokens:
    """Run the image encoder.

    Args:
        visual: ``clip_model.visual``.
        image: (B, 3, H, W), normalized.
        prompts: deep visual prompts, each (n, width). The first is appended to the patch tokens
            before ``ln_pre``; the i-th replaces it before block i.
        local: whether to return local tokens and saliency, which train the refiner.
        inserted: block (from 0) -> (n, width), tokens without positions that are added before it,
            or replace those of an earlier block; not together with ``prompts``.
        head: (width, d), the projection of the mean of the inserted tokens to ``second``.

    Raises:
        SettingsError: prompts or local tokens are requested from a ResNet, which has neither, or
            the encoder does not take images of this size.
    """
    check_size(visual, *image.shape[-2:])
    image = image.to(visual.conv1.weight.dtype)
    if not is_vision_transformer(visual):
        if local or prompts or inserted:
            raise SettingsError(
                f"{type(visual).__name__} has no patch tokens: TextRefiner and visual prompts need "
                "a vision transformer, set MODEL.BACKBONE.NAME to one (ViT-B/16, ViT-B/32, ...)"
            )
        return ImageTokens(visual(image))

    x = _patch_tokens(visual, image)
    kept = x.shape[1]  # CLS and patches, followed by prompts
    if prompts:
        x = torch.cat([x, _for_batch(prompts[0], x)], dim=1)
    x = visual.ln_pre(x)
    *blocks, last = visual.transformer.resblocks
    for depth, block in enumerate(blocks):
        x = _swap_visual_prompt(x, kept, prompts, depth)
        x = _insert(x, kept, inserted, depth)
        x = _block(block, x)
    x = _swap_visual_prompt(x, kept, prompts, len(blocks))
    x = _insert(x, kept, inserted, len(blocks))

    if not local:
        pooled = x[:, :1] if head is None else torch.cat([x[:, :1], x[:, kept:]], dim=1)
        q, k, v = _qkv_for_rows(last, x, pooled)
        rows = _output_and_mlp(last, pooled, F.scaled_dot_product_attention(q, k, v))
        first = _project(visual.ln_post(rows[:, 0]), visual.proj)
        return ImageTokens(first, second=_second(visual, rows[:, 1:], head))
    q, k, v = _qkv(last, x)
    scores = q[:, :, :1] @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    wide = torch.promote_types(scores.dtype, torch.float32)
    attention = scores.softmax(dim=-1, dtype=wide)
    rows = _output_and_mlp(last, x, F.scaled_dot_product_attention(q, k, v))
    tokens = _project(visual.ln_post(rows[:, :kept]), visual.proj)
    saliency = attention.mean(dim=1)[:, 0, 1:kept]
    return ImageTokens(tokens[:, 0], tokens, saliency, _second(visual, rows[:, kept:], head))


def encode_text(
    clip_model: Any,
    embeddings: Tensor,
    packing: Packing,
    prefix: Tensor | None = None,
    prompts: Sequence[Tensor] = (),
    inserted: Mapping[int, Tensor] = NOTHING,
    class_prompts: tuple[int, Tensor] | None = None,
) -> Tensor:
    """Run the text encoder on embedded prompts.

    Args:
        clip_model: a CLIP; its ``visual`` is not used.
        embeddings: (C, L, W), token embeddings after the prefix, without positions; tokens after
            the longest EOT are optional.
        packing: the rows of the prompts, and how many run at once; with several parts, the
            backward pass recomputes the activations of each.
        prefix: the common start of all prompts, (p, W), or (B, p, W) for B groups of prompts with
            different prefixes (one per image in CoCoOp).
        prompts: deep text prompts, each (n, W), n < p: the i-th (from 0) replaces positions 1..n
            before block i + 1.
        inserted: block (from 0) -> (n, W), tokens without positions that are added after SOS before
            it, or replace those of an earlier block; not together with ``prompts``.
        class_prompts: block k > 0 and (C, n, W), n < p: tokens of each prompt that replace
            positions 1..n before block k (TCP); not together with ``inserted``. The prefix is then
            the same for all C prompts in blocks 0..k-1 only.

    Returns:
        (C, d), or (B, C, d) with a (B, p, W) prefix; in the joint space, not normalized.
    """
    if (prompts or inserted or class_prompts) and prefix is None:
        raise ValueError("deep text prompts replace tokens of the prefix, but prefix is None")
    if class_prompts and prefix is not None and prefix.dim() > 2:
        raise ValueError("class prompts replace tokens of one prefix, not of a prefix per image")
    flat = embeddings[:, : packing.columns].flatten(0, 1)
    shared = prefix is None or prefix.dim() == 2
    past: list[Past] = [()] * len(clip_model.transformer.resblocks)
    groups = 1
    if prefix is not None:
        groups = 1 if shared else len(prefix)
        grouped = prefix[None] if shared else prefix
        past = _prefix_keys_values(clip_model, grouped, prompts, inserted, class_prompts)

    run = partial(_run_part, clip_model, flat)
    at_once = min(groups, packing.groups)
    if (at_once < groups or len(packing.parts) > 1) and torch.is_grad_enabled():
        # The encoder is deterministic, so there is no random state to restore.
        run = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    features = []
    for first in range(0, groups, at_once):
        some = past
        if groups > 1:
            some = [tuple(t[first : first + at_once] for t in pair) for pair in past]
        features.append(torch.cat([run(part, some) for part in packing], dim=1))
    text = torch.cat(features)
    return text[0] if shared else text


def _prefix_keys_values(
    clip_model: Any,
    prefix: Tensor,
    prompts: Sequence[Tensor],
    inserted: Mapping[int, Tensor],
    class_prompts: tuple[int, Tensor] | None,
) -> list[Past]:
    """Return keys and values (G, heads, p, D) of the prefixes (G, p, W) in every block.

    Inserted tokens lengthen the prefix from their block on. With class prompts it is
    (C, heads, p, D) from their block on.
    """
    blocks = clip_model.transformer.resblocks
    x = prefix + clip_model.positional_embedding[: prefix.shape[1]].to(prefix.dtype)
    past: list[Past] = []
    for depth, block in enumerate(blocks):
        x = _swap_text_prompt(x, prompts, depth)
        x = _insert_after_sos(x, prefix.shape[1], inserted, depth)
        if class_prompts and depth == class_prompts[0]:
            x = _swap_class_prompts(x, class_prompts[1])
        q, k, v = _qkv(block, x)
        past.append((k, v))
        if depth < len(blocks) - 1:
            x = _output_and_mlp(block, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    return past


def _run_part(clip_model: Any, flat: Tensor, part: PackedPart, past: Sequence[Past]) -> Tensor:
    """Run the encoder on one part of all prompts (C L, W) after G prefixes; return (G, n, d)."""
    groups = len(past[0][0]) if past[0] else 1
    rows = len(part.take)
    x = flat[part.take] + clip_model.positional_embedding.to(flat.dtype)[part.position]
    x = x.repeat(groups, 1, 1)  # (G R, S, W)
    mask = part.mask.repeat(groups, 1, 1, 1)
    *blocks, last = clip_model.transformer.resblocks
    for block, before in zip(blocks, past, strict=False):
        q, k, v = _qkv(block, x)
        before, seen = _prefix_of_rows(before, mask, groups, part)
        k, v = _prepend_prefix(before, (k, v), rows)
        seen = _with_inserted(seen, k)
        x = _output_and_mlp(block, x, F.scaled_dot_product_attention(q, k, v, attn_mask=seen))

    # The last block computes the EOT tokens only.
    slots = part.slots.repeat(groups, 1)
    each = torch.arange(len(x), device=x.device)[:, None]
    eot = x[each, slots]  # (G R, Q, W)
    q, k, v = _qkv_for_rows(last, x, eot)
    before, seen = _prefix_of_rows(past[-1], mask, groups, part)
    k, v = _prepend_prefix(before, (k, v), rows)
    visible = _with_inserted(seen[each, 0, slots][:, None], k)  # (G R, 1, Q, p + S)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    eot, attended = (_unpack(t, part.order, groups) for t in (eot, attended.transpose(1, 2)))
    pooled = clip_model.ln_final(_output_and_mlp(last, eot, attended.transpose(1, 2)))
    return _project(pooled, clip_model.text_projection)


def _prefix_of_rows(past: Past, mask: Tensor, groups: int, part: PackedPart) -> tuple[Past, Tensor]:
    """Return the prefixes of a block for the rows of a part, and the mask that belongs to them.

    One prefix (G, heads, p, D) for all prompts remains as it is. Of one for each prompt,
    (C, heads, p, D), a row gets those of its own prompts, (R, heads, Q p, D), and a token sees that
    of its own prompt only.
    """
    if not past or len(past[0]) == groups:
        return past, mask
    start = past[0].shape[2]
    found = tuple(t[part.prompts.clamp(min=0)].transpose(1, 2).flatten(2, 3) for t in past)
    own = part.owner[:, :, None] == part.prompts[:, None, :]  # (R, S, Q)
    seen = own.repeat_interleave(start, dim=2)[:, None]
    return found, torch.cat([seen, mask[..., start:]], dim=-1)


def _prepend_prefix(past: Past, own: tuple[Tensor, Tensor], rows: int) -> tuple[Tensor, ...]:
    """Prepend keys and values of G prefixes, or of the prefixes of R rows, to those of G R rows."""
    if not past:
        return own
    before = (
        past if len(past[0]) == len(own[0]) else (t.repeat_interleave(rows, dim=0) for t in past)
    )
    return tuple(torch.cat(pair, dim=2) for pair in zip(before, own, strict=True))


def _with_inserted(mask: Tensor, keys: Tensor) -> Tensor:
    """Extend a mask (..., p + S) to ``keys`` (N, heads, n + p + S, D) of n inserted tokens."""
    inserted = keys.shape[2] - mask.shape[-1]
    return F.pad(mask, (inserted, 0), value=True) if inserted else mask


def _unpack(slots: Tensor, order: Tensor, groups: int) -> Tensor:
    """Reorder slots (G R, Q, ...) to (G, n, ...), in the order of the prompts."""
    return slots.reshape(groups, -1, *slots.shape[2:])[:, order]


# --- one residual block of OpenAI's CLIP on batch-first tokens (N, L, W) ---


def _split(block: Any, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Split (N, L, parts * W) into ``parts`` tensors (N, heads, L, W / heads)."""
    n, length, width = projected.shape
    heads = block.attn.num_heads
    shape = (n, length, parts, heads, width // parts // heads)
    return projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)


def _qkv(block: Any, x: Tensor) -> tuple[Tensor, ...]:
    """Return queries, keys and values of all tokens."""
    attn = block.attn
    return _split(block, F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias), 3)


def _qkv_for_rows(block: Any, x: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """Return queries of ``rows`` (N, R, W) only, and keys and values of all tokens of ``x``."""
    width = x.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    q = F.linear(block.ln_1(rows), weight[:width], bias[:width])
    k, v = _split(block, F.linear(block.ln_1(x), weight[width:], bias[width:]), 2)
    return (*_split(block, q, 1), k, v)


def _output_and_mlp(block: Any, x: Tensor, attended: Tensor) -> Tensor:
    """Apply the output projection to ``attended`` (N, heads, L, D), residuals and MLP."""
    x = x + block.attn.out_proj(attended.transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x))


def _block(block: Any, x: Tensor) -> Tensor:
    q, k, v = _qkv(block, x)
    return _output_and_mlp(block, x, F.scaled_dot_product_attention(q, k, v))


# --- encoders ---


def _patch_tokens(visual: Any, image: Tensor) -> Tensor:
    """Return CLS and patch embeddings with positions, (B, 1+P, width), of (B, 3, H, W)."""
    patches = visual.conv1(image).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
    position = visual.positional_embedding.to(patches.dtype)
    return torch.cat([cls, patches], dim=1) + position


def check_size(visual: Any, height: int, width: int) -> None:
    """Raise SettingsError unless an image encoder takes images of this size in pixels.

    Other sizes with the same number of patches would be read with positions of other patches.
    """
    side = visual.input_resolution
    if (height, width) != (side, side):
        raise SettingsError(
            f"images are {height}x{width}, but the backbone takes {side}x{side}: set INPUT.SIZE to "
            f"({side}, {side})"
        )


def _project(features: Tensor, weight: Tensor) -> Tensor:
    return features @ weight.to(features.dtype)


# --- deep prompts ---


def _for_batch(prompt: Tensor, x: Tensor) -> Tensor:
    return prompt.to(x.dtype).expand(x.shape[0], -1, -1)


def _swap_visual_prompt(x: Tensor, kept: int, prompts: Sequence[Tensor], depth: int) -> Tensor:
    """Replace what follows the first ``kept`` tokens by the visual prompt of ``depth`` > 0."""
    if not 0 < depth < len(prompts):
        return x
    return torch.cat([x[:, :kept], _for_batch(prompts[depth], x)], dim=1)


def _swap_class_prompts(x: Tensor, tokens: Tensor) -> Tensor:
    """Replace positions 1..n of a prefix (1, p, W) by tokens (C, n, W); return (C, p, W)."""
    x = x.expand(len(tokens), -1, -1)
    return torch.cat([x[:, :1], tokens.to(x.dtype), x[:, 1 + tokens.shape[1] :]], dim=1)


def _swap_text_prompt(x: Tensor, prompts: Sequence[Tensor], depth: int) -> Tensor:
    """Replace positions 1..n by the text prompt of ``depth`` > 0; depth 0 is the context."""
    if not 0 < depth <= len(prompts):
        return x
    prompt = _for_batch(prompts[depth - 1], x)
    return torch.cat([x[:, :1], prompt, x[:, 1 + prompt.shape[1] :]], dim=1)


# --- inserted tokens ---


def _insert(x: Tensor, kept: int, inserted: Mapping[int, Tensor], depth: int) -> Tensor:
    """Set what follows the first ``kept`` tokens to the tokens inserted before block ``depth``."""
    if depth not in inserted:
        return x
    return torch.cat([x[:, :kept], _for_batch(inserted[depth], x)], dim=1)


def _insert_after_sos(x: Tensor, start: int, inserted: Mapping[int, Tensor], depth: int) -> Tensor:
    """Insert tokens after SOS into prefixes, which have ``start`` tokens without inserted ones."""
    if depth not in inserted:
        return x
    after = x[:, x.shape[1] - start + 1 :]
    return torch.cat([x[:, :1], _for_batch(inserted[depth], x), after], dim=1)


def _second(visual: Any, tokens: Tensor, head: Tensor | None) -> Tensor | None:
    """Return the feature (B, d) of the mean of inserted tokens (B, n, width), or None."""
    if head is None:
        return None
    return visual.ln_post(tokens).mean(dim=1).to(head.dtype) @ head
