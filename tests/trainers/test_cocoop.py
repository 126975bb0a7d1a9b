"""Compare CoCoOp, with and without TextRefiner, vectorized and in chunks, with naive loops."""

import pytest
import torch
import torch.nn.functional as F

from clip import clip
from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import ToyWorld, learned
from trainers import encode
from trainers.checkpoints.load import load_trained
from trainers.cocoop import CoCoOpLearner, ConditionalPrompts
from trainers.prompting import packing
from trainers.prompting.packing import automatic_chunk
from trainers.settings import RefinerSettings, SettingsError
from trainers.trainer import RefinedCLIP, build_refiner

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["face", "yin_yang", "water_lilly", "very_large_wind_turbine"]
LABEL = torch.tensor([2, 0, 3])
UNBOUNDED = 10**6
SETTINGS = RefinerSettings(cache_size=6)


@pytest.fixture(scope="module")
def toy():
    return toy_clip(embed_dim=64).double().requires_grad_(False)


def build(clip_model, refined, max_prompts=UNBOUNDED, classnames=NAMES, ctx_init="a photo of a"):
    """Return a model in double precision; models of the same seed are equal."""
    torch.manual_seed(0)
    prompts = ConditionalPrompts(clip_model, classnames, n_ctx=3, ctx_init=ctx_init)
    prompts.packing.set_max_prompts(max_prompts)
    learner = CoCoOpLearner(clip_model, prompts)
    refiner = build_refiner(clip_model, 64, SETTINGS) if refined else None
    model = RefinedCLIP(learner, refiner, SETTINGS if refined else None).double()
    model.freeze()
    return model


def images(count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64)


def gradients(model, loss):
    """Return gradients by name, zeros if unused. The graph may be used again."""
    named = dict(torch.nn.ModuleDict(model.trainable_modules()).named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }


# --- method.md, "CoCoOp", with loops ---


def naive_text(model, feature):
    """Compute T_b (C, d), the text features of an image with global feature g_b (d,)."""
    clip_model, prompts = model.learner.clip_model, model.learner.prompts
    net, ctx = prompts.meta_net, prompts.ctx
    hidden = torch.clamp(net.linear1.weight @ feature + net.linear1.bias, min=0)
    shift = net.linear2.weight @ hidden + net.linear2.bias
    rows = []
    for name in NAMES:
        ids = clip.tokenize(f"a photo of a {name.replace('_', ' ')}.")[0]
        embedding = clip_model.token_embedding(ids)
        context = torch.stack([token + shift for token in ctx])
        embedding = torch.cat([embedding[:1], context, embedding[1 + len(ctx) :]])
        row = naive.text_feature(clip_model, embedding, int(ids.argmax()))
        rows.append(row / row.norm())
    return torch.stack(rows)


def naive_refined(refiner, text):
    """Compute T'_b of one image, one class at a time, without changing the cache."""
    rows = []
    for row in text:
        weights = torch.stack([entry @ row for entry in refiner.cache.entries]).exp()
        read = weights @ refiner.cache.entries / weights.sum()
        rows.append(row + 0.2 * refiner.aggregate.weight @ torch.cat([row, read]))
    return torch.stack(rows)


def naive_aligned(refiner, tokens):
    """Compute L of all images from a list of V_b (1+P, d); BatchNorm uses all rows."""
    align = refiner.align
    rows = torch.stack([align.inner.weight @ v + align.inner.bias for v in torch.cat(tokens)])
    mean, variance = rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)
    rows = (rows - mean) / (variance + 1e-5).sqrt() * align.norm.weight + align.norm.bias
    rows = torch.stack([align.outer.weight @ row.clamp(min=0) + align.outer.bias for row in rows])
    return rows.split(len(tokens[0]))


def naive_step(model, batch, label):
    """Return logits (B, C) and weighted losses of one step, without writing to the cache."""
    clip_model, refiner = model.learner.clip_model, model.refiner
    tau = clip_model.logit_scale.exp()
    seen = [naive.image_tokens(clip_model.visual, image) for image in batch]
    aligned = naive_aligned(refiner, [v for v, _ in seen]) if refiner else seen
    logits, ce, semantic, distances = [], [], [], []
    for (tokens, saliency), local, y in zip(seen, aligned, label.tolist(), strict=True):
        feature = tokens[0] / tokens[0].norm()
        text = naive_text(model, feature)
        refined = naive_refined(refiner, text) if refiner else text
        logits.append(torch.stack([tau * feature @ row for row in refined]))
        ce.append(logits[-1].logsumexp(0) - logits[-1][y])
        if refiner:
            patches = sorted(range(len(saliency)), key=lambda p: -float(saliency[p]))[:5]
            for row in (local[0], *[local[1 + p] for p in patches], local.mean(0)):
                scores = torch.stack([tau * row @ t for t in text])
                semantic.append(scores.logsumexp(0) - scores[y])
            distances += [(r / r.norm() - t).abs() for r, t in zip(refined, text, strict=True)]
    losses = {"ce": sum(ce) / len(ce)}
    if refiner:
        losses["semantic"] = 0.02 * sum(semantic) / len(semantic)
        losses["regularizer"] = 20.0 * torch.stack(distances).mean()
    return torch.stack(logits), losses


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("max_prompts", [UNBOUNDED, 3])
def test_step_equals_naive(toy, refined, max_prompts):
    model = build(toy, refined, max_prompts)
    logits, losses = naive_step(model, images(), LABEL)
    step = model.training_step({"img": images(), "label": LABEL})
    torch.testing.assert_close(step.logits, logits, **EXACT)
    assert step.losses.keys() == losses.keys()
    for name, value in step.losses.items():
        torch.testing.assert_close(value, losses[name], **EXACT)
        # Compare each loss separately, so that errors cannot compensate.
        torch.testing.assert_close(gradients(model, value), gradients(model, losses[name]), **EXACT)
        meta_net = gradients(model, value)["prompt_learner.meta_net.linear1.weight"]
        assert meta_net.abs().max() > 1e-6


def test_cache_is_shared_by_all_images_and_written_once(toy):
    model = build(toy, refined=True)
    entries = model.refiner.cache.entries
    local = naive_aligned(
        model.refiner, [naive.image_tokens(toy.visual, image)[0] for image in images()]
    )
    model.training_step({"img": images(), "label": LABEL})
    moved = model.refiner.cache.entries
    model.refiner.cache.entries = entries
    model.refiner.cache.update(torch.cat(local))
    torch.testing.assert_close(moved, model.refiner.cache.entries, **EXACT)
    assert moved.shape == (6, 64)


# --- chunks ---


@pytest.mark.parametrize("max_prompts", [1, 2, 3, 4, 5, 7, 8, 11, 12])
def test_chunks_do_not_change_results_and_respect_their_size(toy, max_prompts, monkeypatch):
    sizes, original = [], encode._run_part

    def watched(clip_model, flat, part, past):
        sizes.append(len(past[0][0]) * len(part.order))
        return original(clip_model, flat, part, past)

    monkeypatch.setattr(encode, "_run_part", watched)
    results = []
    for limit in (UNBOUNDED, max_prompts):
        model = build(toy, True, limit)
        sizes.clear()
        step = model.training_step({"img": images(), "label": LABEL})
        forward = list(sizes)
        gradient = gradients(model, torch.stack(list(step.losses.values())).sum())
        results.append((step.logits, step.losses, gradient))
    assert max(forward) <= max_prompts
    assert sum(forward) == 3 * len(NAMES)
    # Every chunk is recomputed in the backward pass unless there is only one.
    assert len(sizes) == len(forward) * (1 if max_prompts >= 12 else 2)
    torch.testing.assert_close(*results, **EXACT)


@pytest.mark.parametrize("max_prompts", [3, 8])
def test_chunks_in_eval_mode(toy, max_prompts):
    whole, chunked = (build(toy, True, limit).eval() for limit in (UNBOUNDED, max_prompts))
    with torch.no_grad():
        torch.testing.assert_close(whole(images(5)), chunked(images(5)), **EXACT)


@pytest.mark.parametrize("refined", [False, True])
def test_logits_of_an_image_do_not_depend_on_its_batch(toy, refined):
    model = build(toy, refined, max_prompts=9).eval()
    batch = images(8)
    with torch.no_grad():
        single = torch.cat([model(image[None]) for image in batch])
        torch.testing.assert_close(model(batch), single, **EXACT)
    losses = [naive_step(build(toy, False), batch[b : b + 1], LABEL[:1])[1]["ce"] for b in range(2)]
    both = build(toy, False).training_step({"img": batch[:2], "label": LABEL[:1].expand(2)})
    torch.testing.assert_close(both.losses["ce"], sum(losses) / 2, **EXACT)


def saved_bytes(model):
    """Return the bytes that autograd saves for the backward pass of the text encoder."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    features = F.normalize(torch.randn(3, 64), dim=-1).to(model.learner.prompts.ctx.dtype)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        text = model.learner.encode_text(features)
    frozen = {p.untyped_storage().data_ptr() for p in model.learner.clip_model.parameters()}
    assert text.requires_grad
    return sum(s.nbytes() for pointer, s in storages.items() if pointer not in frozen)


def test_max_prompts_limits_memory_and_the_automatic_size_fits(toy, monkeypatch):
    model = build(toy, refined=False)
    tokens = sum(model.learner.prompts.packing.lengths) / len(NAMES)
    needed = saved_bytes(model)
    prompts = 3 * len(NAMES)
    monkeypatch.setattr(packing, "CPU_MEMORY", 2 * needed)
    automatic = automatic_chunk(toy, tokens, torch.device("cpu"))
    assert prompts / 4 < automatic <= prompts, (
        "half of the memory is enough for that many and not for many more"
    )
    # On a GPU, the free memory is queried: (free, total).
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8 * needed, 99 * needed))
    assert automatic_chunk(toy, tokens, torch.device("cuda")) == 4 * automatic
    monkeypatch.setattr(packing, "CPU_MEMORY", 1)
    assert automatic_chunk(toy, tokens, torch.device("cpu")) == 1
    assert saved_bytes(build(toy, False, max_prompts=4)) < needed / 3


# --- the trainer ---


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("precision", ["fp32", "amp"])
def test_chunked_training_equals_unchunked_training(world, precision, tmp_path, capsys):
    options = ("TRAINER.COCOOP.PREC", precision, "OPTIM.MAX_EPOCH", 2, "OPTIM.LR", 0.002)
    ends = []
    for limit in (0, 5):
        limited = (*options, "TRAINER.COCOOP.MAX_PROMPTS", limit)
        ends.append(learned(world.trained("CoCoOp", tmp_path / f"{limit}", *limited)))
        lines = [line for line in capsys.readouterr().out.splitlines() if "at once" in line]
        assert len(lines) == 1
        assert ("(automatic, TRAINER.TEXT_CHUNK 0)" in lines[0]) == (limit == 0)
        assert limit == 0 or ": 5 at most (TRAINER.COCOOP.MAX_PROMPTS)" in lines[0]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5 if precision == "fp32" else 1e-2)


@pytest.mark.parametrize("key", ["TRAINER.TEXT_CHUNK", "TRAINER.COCOOP.MAX_PROMPTS"])
def test_negative_max_prompts_raises(world, tmp_path, key):
    with pytest.raises(SettingsError, match=rf"{key} must be a whole number from 0 .* got -3$"):
        world.build("CoCoOp", tmp_path, key, -3)


def test_max_prompts_overrides_text_chunk(world, tmp_path):
    options = ("TRAINER.TEXT_CHUNK", 7, "TRAINER.COCOOP.MAX_PROMPTS", 5)
    both = world.build("CoCoOp", tmp_path / "a", *options)
    assert both.model.learner.prompts.packing.max_prompts == 5
    general = world.build("CoCoOp", tmp_path / "b", *options[:2])
    assert general.model.learner.prompts.packing.max_prompts == 7


def test_random_context_has_n_ctx_tokens(toy):
    prompts = build(toy, False, ctx_init="").learner.prompts
    assert prompts.ctx.shape == (3, 64)
    assert prompts.meta_net.linear1.out_features == 4


# --- checkpoints in the public layout ---


def public_state(classes):
    """Return CoCoOp's prompt_learner as saved by its public code in half precision."""
    generator = torch.Generator().manual_seed(2)
    shapes = {
        "ctx": (4, 64),
        "token_prefix": (classes, 1, 64),
        "token_suffix": (classes, 72, 64),
        "meta_net.linear1.weight": (4, 64),
        "meta_net.linear1.bias": (4,),
        "meta_net.linear2.weight": (64, 4),
        "meta_net.linear2.bias": (64,),
    }
    return {k: torch.randn(*s, generator=generator).half() for k, s in shapes.items()}


def save_public(folder, state):
    (folder / "prompt_learner").mkdir()
    content = {"state_dict": state, "epoch": 10, "optimizer": None, "val_result": None}
    torch.save(content, folder / "prompt_learner" / "model.pth.tar-10")


def test_public_checkpoint_loads_strictly(toy, tmp_path):
    state = public_state(classes=51)
    save_public(tmp_path, state)
    model = build(toy, refined=False)
    load_trained(model.trainable_modules(), str(tmp_path), 10, toy)
    own = model.learner.prompts.state_dict()
    assert own.keys() == state.keys() - {"token_prefix", "token_suffix"}
    for key, value in own.items():
        assert torch.equal(value, state[key].double())
    logits, _ = naive_step(model, images(), LABEL)
    with torch.no_grad():
        torch.testing.assert_close(model(images()), logits, **EXACT)


def test_coop_checkpoint_has_no_meta_net(toy, tmp_path):
    save_public(tmp_path, {"ctx": torch.zeros(4, 64)})
    with pytest.raises(
        SettingsError, match=r"lacks meta_net.linear1.bias, meta_net.linear1.weight"
    ):
        load_trained(build(toy, False).trainable_modules(), str(tmp_path), 10, toy)
