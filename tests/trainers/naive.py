"""Naive CLIP encoders: 77 positions, complete blocks and explicit attention weights.

Written from method.md with ``nn.MultiheadAttention`` itself; the tests compare the fast paths with
it. One image or one class at a time.
"""

import torch

from clip import clip


def block(module, x, mask=None):
    """One residual block on (L, W); returns tokens and head-averaged attention (L, L)."""
    normed = module.ln_1(x)[:, None]
    y, weights = module.attn(normed, normed, normed, need_weights=True, attn_mask=mask)
    x = x + y[:, 0]
    return x + module.mlp(module.ln_2(x)), weights[0]


def image_tokens(visual, image, prompts=()):
    """One image (3, H, W) -> (all projected tokens (1+P, d), attention of CLS over patches)."""
    patches = visual.conv1(image[None])[0].flatten(1).T
    x = torch.cat([visual.class_embedding[None], patches]) + visual.positional_embedding
    kept = len(x)
    if prompts:
        x = torch.cat([x, prompts[0]])
    x = visual.ln_pre(x)
    for depth, module in enumerate(visual.transformer.resblocks):
        if 0 < depth < len(prompts):
            x = torch.cat([x[:kept], prompts[depth]])
        x, weights = block(module, x)
    return (visual.ln_post(x) @ visual.proj)[:kept], weights[0, 1:kept]


def text_feature(clip_model, embedding, eot, prompts=()):
    """One prompt's embedding (L, W), any L > eot -> (d,)."""
    length = len(embedding)
    mask = torch.full((length, length), float("-inf"), dtype=embedding.dtype).triu(1)
    x = embedding + clip_model.positional_embedding[:length]
    for depth, module in enumerate(clip_model.transformer.resblocks):
        if 0 < depth <= len(prompts):
            prompt = prompts[depth - 1]
            x = torch.cat([x[:1], prompt, x[1 + len(prompt) :]])
        x, _ = block(module, x, mask)
    return clip_model.ln_final(x[eot]) @ clip_model.text_projection


def class_feature(clip_model, name, context, ctx=(), prompts=()):
    """Unit text feature (d,) of "<context> <name>."; ``ctx`` (n, W) replaces its first words."""
    ids = clip.tokenize(f"{context} {name.replace('_', ' ')}.")[0]
    embedding = clip_model.token_embedding(ids)
    if len(ctx):
        embedding = torch.cat([embedding[:1], ctx, embedding[1 + len(ctx) :]])
    feature = text_feature(clip_model, embedding, int(ids.argmax()), prompts)
    return feature / feature.norm()


def kl(target, logits, temperature=1.0):
    """t^2 sum_c p_c (log p_c - log q_c), p from the target's logits, for one row (C,)."""
    p, q = (torch.exp(z / temperature) for z in (target, logits))
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))
