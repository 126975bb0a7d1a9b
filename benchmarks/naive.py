"""Plain implementations of the methods, the baseline for the speed of the trainers.

They follow docs/method.md in the style of the methods' public code: all 77 positions of every text
pass through every block, every block computes attention weights, class prompts are encoded for
every batch, cache entries are updated one by one, and PromptKD runs its whole teacher for every
batch, including at test. Only the weights are shared with the trainers, not their encoders or
losses. Both compute the same numbers (tests/benchmarks/test_naive.py).
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clip import clip

__all__ = ["Step", "encode_image", "encode_text", "model_of", "update_cache"]

Losses = dict[str, Tensor]


class Step(NamedTuple):
    """Logits (B, C) and weighted losses of one training step."""

    logits: Tensor
    losses: Losses


def _block(block: Any, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the tokens (L, N, W) and attention weights (N, L, L) of one residual block."""
    y = block.ln_1(x)
    y, weights = block.attn(y, y, y, need_weights=True, attn_mask=mask)
    x = x + y
    return x + block.mlp(block.ln_2(x)), weights


def encode_image(
    visual: Any, image: Tensor, prompts: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor]:
    """Return projected tokens (B, 1+P, d) and attention of CLS over the patches (B, P)."""
    x = visual.conv1(image.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
    x = torch.cat([cls, x], dim=1) + visual.positional_embedding.to(x.dtype)
    kept = x.shape[1]
    if prompts:
        x = torch.cat([x, prompts[0].to(x.dtype).expand(len(x), -1, -1)], dim=1)
    x = visual.ln_pre(x).permute(1, 0, 2)
    for depth, block in enumerate(visual.transformer.resblocks):
        if 0 < depth < len(prompts):
            prompt = prompts[depth].to(x.dtype)[:, None].expand(-1, x.shape[1], -1)
            x = torch.cat([x[:kept], prompt])
        x, weights = _block(block, x)
    tokens = visual.ln_post(x.permute(1, 0, 2)) @ visual.proj.to(x.dtype)
    return tokens[:, :kept], weights[:, 0, 1:kept]


def encode_text(
    clip_model: Any, embeddings: Tensor, ids: Tensor, prompts: Sequence[Tensor] = ()
) -> Tensor:
    """Return unit features (C, d) of token embeddings (C, 77, W) with ids (C, 77)."""
    x = embeddings + clip_model.positional_embedding.to(embeddings.dtype)
    x = x.permute(1, 0, 2)
    mask = torch.full((len(x), len(x)), float("-inf"), device=x.device, dtype=x.dtype).triu_(1)
    for depth, block in enumerate(clip_model.transformer.resblocks):
        if 0 < depth <= len(prompts):
            prompt = prompts[depth - 1].to(x.dtype)[:, None].expand(-1, x.shape[1], -1)
            x = torch.cat([x[:1], prompt, x[1 + len(prompt) :]])
        x, _ = _block(block, x, mask)
    x = clip_model.ln_final(x.permute(1, 0, 2))
    eot = ids.argmax(dim=-1)
    features = x[torch.arange(len(x), device=x.device), eot] @ clip_model.text_projection.to(x)
    return _unit(features)


def _unit(features: Tensor) -> Tensor:
    features = features if features.dtype == torch.float64 else features.float()
    return features / features.norm(dim=-1, keepdim=True)


class ClassPrompts:
    """Prompts "<context> <class name>." with learned tokens (n, W) replacing the first words."""

    def __init__(self, clip_model: Any, classnames: Sequence[str], context: str) -> None:
        texts = [f"{context} {name.replace('_', ' ')}." for name in classnames]
        self.ids = clip.tokenize(texts).to(clip_model.positional_embedding.device)
        with torch.no_grad():
            self.embeddings = clip_model.token_embedding(self.ids).to(clip_model.dtype)

    def __call__(self, ctx: Tensor) -> Tensor:
        """Return the token embeddings (C, 77, W)."""
        before, after = self.embeddings[:, :1], self.embeddings[:, 1 + len(ctx) :]
        learned = ctx.to(before.dtype).expand(len(before), -1, -1)
        return torch.cat([before, learned, after], dim=1)


@torch.no_grad()
def update_cache(entries: Tensor, tokens: Tensor, momentum: float) -> Tensor:
    """Return the updated entries (M, d) of a cache (M, d), one at a time, for tokens (N, d)."""
    tokens = _unit(tokens)
    scores = tokens @ entries.T
    owner = scores.argmax(dim=1)
    share = scores.softmax(dim=0)
    updated = entries.clone()
    for j in range(len(entries)):
        own = (owner == j).nonzero().flatten()
        if len(own) == 0:
            continue
        weight = share[own, j] / share[:, j].max()
        moved = (weight[:, None] * tokens[own]).sum(dim=0)
        updated[j] = momentum * entries[j] + (1 - momentum) * moved
    return _unit(updated)


def _aligned(align: Any, tokens: Tensor) -> Tensor:
    """Apply the feature alignment h: (..., d_v) -> (..., d)."""
    rows = align.inner(tokens.reshape(-1, tokens.shape[-1]).to(align.inner.weight.dtype))
    return align.outer(torch.relu(align.norm(rows))).view(*tokens.shape[:-1], -1)


def _refine(refiner: Any, text: Tensor) -> Tensor:
    """Return the refined text features T' (..., d)."""
    entries = refiner.cache.entries.to(text.dtype)
    read = (text @ entries.T).softmax(dim=-1) @ entries
    return text + refiner.alpha * refiner.aggregate(torch.cat([text, read], dim=-1))


def _salient(local: Tensor, saliency: Tensor, topk: int) -> Tensor:
    """Return the local features S (B, K, d), one image at a time."""
    sets = []
    for rows, attention in zip(local, saliency, strict=True):
        patches = attention.topk(topk).indices + 1
        sets.append(torch.cat([rows[:1], rows[patches], rows.mean(dim=0, keepdim=True)]))
    return torch.stack(sets)


def _kl(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return t^2 KL(target || logits) / (N C)."""
    p = (target / temperature).softmax(dim=-1)
    q = (logits / temperature).log_softmax(dim=-1)
    return (p * (p.log() - q)).sum() * temperature**2 / logits.numel()


class Naive(nn.Module):
    """CoOp, and the base class of the other methods, with the weights of a trainer's model."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__()
        self.model = model
        self.clip_model = model.learner.clip_model
        self.refiner = model.refiner
        self.settings = model.settings
        self.words = ClassPrompts(self.clip_model, classnames, context)

    @property
    def scale(self) -> Tensor:
        return self.clip_model.logit_scale.exp()

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pooled features (B, d), tokens (B, 1+P, d_v) and saliency (B, P)."""
        with torch.no_grad():
            tokens, saliency = encode_image(self.clip_model.visual, image)
        return tokens[:, 0], tokens, saliency

    def text(self, features: Tensor) -> Tensor:
        """Return unit text features (C, d), or (B, C, d) if they depend on features (B, d)."""
        ctx = self.model.learner.prompts.ctx
        return encode_text(self.clip_model, self.words(ctx), self.words.ids)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, C) at test."""
        with torch.no_grad():
            features = _unit(self.image(image)[0])
            text = self.text(features)
            return self._logits(features, text if self.refiner is None else self._refined(text))

    def training_step(self, image: Tensor, label: Tensor) -> Step:
        """Return logits and losses, and update the cache."""
        pooled, tokens, saliency = self.image(image)
        features = _unit(pooled)
        text = self.text(features)
        refined = text if self.refiner is None else self._refined(text)
        logits = self._logits(features, refined)
        name, weight, target, loss = self.objective(image, label, text)
        losses = {name: weight * loss(logits, target)}
        if self.refiner is not None:
            losses |= self._refiner(tokens, saliency, text, refined, (weight, target, loss))
        return Step(logits, losses | self.more(image, features, text, logits))

    def objective(
        self, image: Tensor, label: Tensor, text: Tensor
    ) -> tuple[str, float, Tensor, Any]:
        """Return name, weight, target and function of the classification loss."""
        return "ce", 1.0, label, F.cross_entropy

    def more(self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor) -> Losses:
        """Return further losses of the method."""
        return {}

    def _logits(self, features: Tensor, text: Tensor) -> Tensor:
        if text.dim() == 2:
            return self.scale * features @ text.T
        return torch.stack([self.scale * t @ f for f, t in zip(features, text, strict=True)])

    def _refined(self, text: Tensor) -> Tensor:
        if text.dim() == 2:
            return _refine(self.refiner, text)
        return torch.stack([_refine(self.refiner, t) for t in text])

    def _refiner(
        self, tokens: Tensor, saliency: Tensor, text: Tensor, refined: Tensor, task: Any
    ) -> Losses:
        (weight, target, loss), settings = task, self.settings
        local = _aligned(self.refiner.align, tokens)
        cache = self.refiner.cache
        flat = local.detach().flatten(0, 1).to(cache.entries.dtype)
        cache.entries = update_cache(cache.entries, flat, cache.momentum)
        salient = _salient(local, saliency, settings.topk)
        rows = [self._logits(salient[:, k], text) for k in range(salient.shape[1])]
        logits = torch.stack(rows, dim=1).flatten(0, 1)
        repeated = target.repeat_interleave(salient.shape[1], dim=0)
        regularizer = (_unit(refined) - text).abs().mean()
        return {
            "semantic": weight * settings.local_weight * loss(logits, repeated),
            "regularizer": weight * settings.reg_weight * regularizer,
        }


class NaiveCoCoOp(Naive):
    """CoCoOp: the text encoder runs once per image."""

    def text(self, features: Tensor) -> Tensor:
        prompts = self.model.learner.prompts
        words = (self.words(prompts.ctx + shift) for shift in prompts.meta_net(features))
        return torch.stack([encode_text(self.clip_model, w, self.words.ids) for w in words])


class NaiveKgCoOp(Naive):
    """KgCoOp: CoOp near the frozen features of a template, which are encoded once."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__(model, classnames, context)
        texts = [model.learner.template.format(name.replace("_", " ")) for name in classnames]
        with torch.no_grad():
            ids = clip.tokenize(texts).to(self.words.ids.device)
            self.frozen_text = _unit(self.clip_model.encode_text(ids))

    def more(self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor) -> Losses:
        cosines = torch.cosine_similarity(text, self.frozen_text, dim=-1)
        return {"distance": self.model.learner.weight * (1 - cosines.mean())}


class NaiveCLIPAdapter(Naive):
    """CLIP-Adapter: the text features are encoded once, and the pooled feature is adapted."""

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled, tokens, saliency = super().image(image)
        own = self.model.learner
        pooled = pooled.to(own.adapter.fc[0].weight.dtype)
        adapted = own.adapter(pooled)
        return own.ratio * adapted + (1 - own.ratio) * pooled, tokens, saliency

    def text(self, features: Tensor) -> Tensor:
        return self.model.learner.text


class NaiveTaskRes(Naive):
    """TaskRes: the text features of its checkpoint, and a residual."""

    def text(self, features: Tensor) -> Tensor:
        own = self.model.learner.prompts
        return _unit(own.base_text_features + own.scale * own.text_feature_residuals)


class NaiveTCP(NaiveKgCoOp):
    """TCP: the class-aware tokens are computed for every batch."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__(model, classnames, " ".join(["X"] * len(model.learner.prompts.ctx)))

    def text(self, features: Tensor) -> Tensor:
        clip_model, learner = self.clip_model, self.model.learner
        tokens = learner.prompts.meta_net(self.frozen_text)
        x = self.words(learner.prompts.ctx)
        tokens = tokens.view(len(tokens), -1, x.shape[-1]).to(x.dtype)
        x = (x + clip_model.positional_embedding.to(x.dtype)).permute(1, 0, 2)
        mask = torch.full((len(x), len(x)), float("-inf"), device=x.device, dtype=x.dtype).triu_(1)
        for depth, block in enumerate(clip_model.transformer.resblocks):
            if depth == learner.layer:
                x = torch.cat([x[:1], tokens.permute(1, 0, 2), x[1 + tokens.shape[1] :]])
            x, _ = _block(block, x, mask)
        x = clip_model.ln_final(x.permute(1, 0, 2))
        eot = self.words.ids.argmax(dim=-1)
        each = torch.arange(len(x), device=x.device)
        return _unit(x[each, eot] @ clip_model.text_projection.to(x))


class NaiveATPrompt(Naive):
    """ATPrompt on CoOp: attributes, each after learned tokens, before the context."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        prompts = model.learner.prompts
        learned = " ".join(["X"] * len(prompts.ctx_att1))
        parts = [f"{learned} {attribute}" for attribute in prompts.attributes]
        parts.append(" ".join(["X"] * len(prompts.ctx)))
        super().__init__(model, classnames, " ".join(parts))

    def text(self, features: Tensor) -> Tensor:
        prompts, rows, start = self.model.learner.prompts, [], 1
        for i, attribute in enumerate(prompts.attributes, 1):
            learned = getattr(prompts, f"ctx_att{i}")
            start += len(learned)
            end = start + int(clip.tokenize(attribute).argmax()) - 1
            rows += [learned, self.words.embeddings[0, start:end].to(learned.dtype)]
            start = end
        rows.append(prompts.ctx)
        return encode_text(self.clip_model, self.words(torch.cat(rows)), self.words.ids)


class NaiveMaPLe(Naive):
    """MaPLe: coupled prompts of both encoders."""

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        prompts = self.model.learner.prompts
        text, layers = prompts.compound_prompts_text, prompts.compound_prompt_projections
        deeper = (layer(prompt) for layer, prompt in zip(layers, text, strict=True))
        visual = [prompts.proj(prompts.ctx), *deeper]
        tokens, saliency = encode_image(self.clip_model.visual, image, visual)
        return tokens[:, 0], tokens, saliency

    def text(self, features: Tensor) -> Tensor:
        prompts = self.model.learner.prompts
        deep = list(prompts.compound_prompts_text)
        return encode_text(self.clip_model, self.words(prompts.ctx), self.words.ids, deep)


def _deep(prompts: Any) -> list[Tensor]:
    """Return the prompts of one encoder, those of the input first."""
    blocks = [block.VPT_shallow for block in prompts.transformer["resblocks"].values()]
    return blocks if prompts.VPT is None else [prompts.VPT, *blocks]


class NaivePromptSRC(Naive):
    """PromptSRC: independent prompts of both encoders; the frozen CLIP runs for every batch."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__(model, classnames, context)
        self.classnames = classnames

    @cached_property
    @torch.no_grad()
    def frozen_text(self) -> Tensor:
        """Frozen text features T0 (C, d), encoded once at 77 positions."""
        from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

        total: Any = 0
        for template in OPENAI_IMAGENET_TEMPLATES[:60]:
            texts = [template(name.replace("_", " ")) for name in self.classnames]
            ids = clip.tokenize(texts).to(self.words.ids.device)
            total = total + self.clip_model.encode_text(ids)
        return _unit(total)

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        visual = _deep(self.model.learner.deep.image_encoder)
        tokens, saliency = encode_image(self.clip_model.visual, image, visual)
        return tokens[:, 0], tokens, saliency

    def text(self, features: Tensor) -> Tensor:
        deep = self.model.learner.deep
        words = self.words(deep.prompt_learner.ctx)
        return encode_text(self.clip_model, words, self.words.ids, _deep(deep.text_encoder))

    def more(self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor) -> Losses:
        learner = self.model.learner
        with torch.no_grad():
            frozen = _unit(encode_image(self.clip_model.visual, image)[0][:, 0])
        return {
            "scl_text": learner.text_weight * (text - self.frozen_text).abs().mean(),
            "scl_image": learner.image_weight * (features - frozen).abs().mean(),
            "scl_logits": _kl(logits, self._logits(frozen, self.frozen_text)),
        }


class NaiveMMRL(Naive):
    """MMRL: tokens inserted into 77 positions and 1 + P tokens; two heads, one after the other."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__(model, classnames, context)
        with torch.no_grad():
            self.frozen_text = _unit(self.clip_model.encode_text(self.words.ids))

    def _tokens(self, maps: Any) -> dict[int, Tensor]:
        learned = self.model.learner.tokens
        pairs = zip(learned.blocks, maps, strict=True)
        return {block: layer(learned.compound_rep_tokens) for block, layer in pairs}

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        visual, learner = self.clip_model.visual, self.model.learner
        inserted = self._tokens(learner.tokens.compound_rep_tokens_r2vproj)
        patches = visual.conv1(image.to(visual.conv1.weight.dtype)).flatten(2).transpose(1, 2)
        cls = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([cls, patches], dim=1) + visual.positional_embedding.to(patches.dtype)
        x = visual.ln_pre(x).permute(1, 0, 2)
        count = 0
        for depth, block in enumerate(visual.transformer.resblocks):
            if depth in inserted:
                new = inserted[depth].to(x.dtype)[:, None].expand(-1, x.shape[1], -1)
                x, count = torch.cat([x[:1], new, x[1 + count :]]), len(new)
            x, weights = _block(block, x)
        x = visual.ln_post(x.permute(1, 0, 2))
        self._second = x[:, 1 : 1 + count].mean(dim=1).to(learner.second.proj_rep) @ (
            learner.second.proj_rep
        )
        tokens = torch.cat([x[:, :1], x[:, 1 + count :]], dim=1) @ visual.proj.to(x.dtype)
        return tokens[:, 0], tokens, weights[:, 0, 1 + count :]

    def text(self, features: Tensor) -> Tensor:
        model, words = self.clip_model, self.words
        inserted = self._tokens(self.model.learner.tokens.compound_rep_tokens_r2tproj)
        embeddings = words.embeddings + model.positional_embedding.to(words.embeddings.dtype)
        x, count = embeddings.permute(1, 0, 2), 0
        for depth, block in enumerate(model.transformer.resblocks):
            if depth in inserted:
                new = inserted[depth].to(x.dtype)[:, None].expand(-1, x.shape[1], -1)
                x, count = torch.cat([x[:1], new, x[1 + count :]]), len(new)
            size = (len(x), len(x))
            mask = torch.full(size, float("-inf"), device=x.device, dtype=x.dtype).triu_(1)
            x, _ = _block(block, x, mask)
        x = model.ln_final(x.permute(1, 0, 2))
        eot = words.ids.argmax(dim=-1) + count
        return _unit(x[torch.arange(len(x), device=x.device), eot] @ model.text_projection.to(x))

    def training_step(self, image: Tensor, label: Tensor) -> Step:
        """Return the logits of both heads together, and the losses."""
        step = super().training_step(image, label)
        learner, text = self.model.learner, self.text(step.logits)
        refined = text if self.refiner is None else self._earlier
        second = self._logits(_unit(self._second), refined)
        share = learner.share
        losses = {
            **step.losses,
            "ce": share * step.losses["ce"],
            "ce_second": (1 - share) * F.cross_entropy(second, label),
        }
        return Step(share * step.logits + (1 - share) * second, losses)

    def _refined(self, text: Tensor) -> Tensor:
        self._earlier = super()._refined(text)  # before the cache is updated
        return self._earlier

    def more(self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor) -> Losses:
        weight = self.model.learner.reg_weight
        with torch.no_grad():
            frozen = _unit(encode_image(self.clip_model.visual, image)[0][:, 0])
        return {
            "reg_image": weight * (1 - (features * frozen).sum(dim=-1).mean()),
            "reg_text": weight * (1 - (text * self.frozen_text).sum(dim=-1).mean()),
        }

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits (B, C) of both heads at test."""
        first = super().forward(image)
        with torch.no_grad():
            text = self.text(first)
            text = text if self.refiner is None else self._refined(text)
            second = self._logits(_unit(self._second), text)
        return self.model.learner.share * first + (1 - self.model.learner.share) * second


class NaivePromptKD(Naive):
    """PromptKD: both encoders of the teacher run for every batch."""

    def __init__(self, model: Any, classnames: Sequence[str], context: str) -> None:
        super().__init__(model, classnames, context)
        self.teacher = model.learner.teacher
        self.teacher_words = ClassPrompts(self.teacher.clip_model, classnames, context)

    @torch.no_grad()
    def teach(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the teacher's logits (B, C) and text features (C, d)."""
        frozen, deep = self.teacher.clip_model, self.teacher.deep
        words = self.teacher_words(deep.prompt_learner.ctx)
        text = encode_text(frozen, words, self.teacher_words.ids, _deep(deep.text_encoder))
        tokens, _ = encode_image(frozen.visual, image, _deep(deep.image_encoder))
        return frozen.logit_scale.exp() * _unit(tokens[:, 0]) @ text.T, text

    def image(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        learner = self.model.learner
        self._taught = self.teach(image)
        tokens, saliency = encode_image(self.clip_model.visual, image, _deep(learner.prompts))
        return _aligned(learner.projector, tokens[:, 0]), tokens, saliency

    def text(self, features: Tensor) -> Tensor:
        return self._taught[1]

    def objective(
        self, image: Tensor, label: Tensor, text: Tensor
    ) -> tuple[str, float, Tensor, Any]:
        learner = self.model.learner
        loss = partial(_kl, temperature=learner.temperature)
        return "kd", learner.weight, self._taught[0], loss


METHODS: dict[str, Callable[..., Naive]] = {
    "CoOp": Naive,
    "CoCoOp": NaiveCoCoOp,
    "KgCoOp": NaiveKgCoOp,
    "TCP": NaiveTCP,
    "ATPrompt": NaiveATPrompt,
    "MaPLe": NaiveMaPLe,
    "PromptSRC": NaivePromptSRC,
    "MMRL": NaiveMMRL,
    "CLIPAdapter": NaiveCLIPAdapter,
    "TaskRes": NaiveTaskRes,
    "PromptKD": NaivePromptKD,
}


def model_of(trainer: Any, context: str = "a photo of a") -> Naive:
    """Return the plain implementation with the weights of a trainer."""
    name = trainer.cfg.TRAINER.NAME.removeprefix("TextRefiner")
    return METHODS[name](trainer.model, list(trainer.dm.dataset.classnames), context)
