"""PREC: the type of each part of the computation, for every trainer (docs/precision.md)."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.toy import toy_clip, toy_resnet
from tests.trainers.toy_runs import TEST_CASES, ToyWorld
from trainers import backbone
from trainers.backbone import in_half
from trainers.encode import encode_image, encode_text, unit
from trainers.losses import class_logits, regularizer, salient_tokens, semantic_loss
from trainers.prompting.packing import Packing

PRECISIONS = ["fp32", "amp", "bf16", "fp16"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def run_half_on_a_cpu(monkeypatch, precision):
    """Return the PREC to set; fp16, which a CPU run does not allow, is patched in as bf16."""
    if precision == "fp16":
        monkeypatch.setitem(backbone.HALVES, "bf16", torch.float16)
        return "bf16"
    return precision


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("name", "node"), TEST_CASES)
def test_every_trainer_in_every_precision(world, name, node, precision, tmp_path, monkeypatch):
    prec = run_half_on_a_cpu(monkeypatch, precision)
    trainer = world.build(name, tmp_path, f"TRAINER.{node}.PREC", prec, "OPTIM.MAX_EPOCH", 1)
    computed = set()
    norm = trainer.model.learner.clip_model.visual.ln_post  # returns its input
    norm.register_forward_hook(lambda module, args, out: computed.add(out.dtype))
    trainer.train()
    half = {"fp32": torch.float32, "fp16": torch.float16}.get(precision, torch.bfloat16)
    assert computed == {half}
    model = trainer.model
    stored = torch.float32 if precision == "amp" else half
    encoders = [model.learner] + [m for m in model.learner.children() if hasattr(m, "clip_model")]
    for encoder in encoders:
        clip = encoder.clip_model
        assert {clip.dtype, clip.text_projection.dtype, clip.visual.proj.dtype} == {stored}
        assert clip.ln_final.weight.dtype == clip.token_embedding.weight.dtype == torch.float32
    assert len(encoders) == (2 if "KD" in name else 1)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    if model.refiner is not None:
        assert model.refiner.cache.entries.dtype == torch.float32
        assert model.refiner.cache.entries.isfinite().all()
    logits = trainer.model_inference(torch.randn(2, 3, 32, 32))
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    if precision in ("bf16", "fp16"):
        text = model.class_features()
        assert text is None or text.dtype == torch.float32


def test_log_contains_the_precision(world, tmp_path, capsys):
    lines = {
        "fp32": "Precision: fp32 on cpu (everything in float32)",
        "amp": "Precision: amp on cpu (weights in float32, autocast to bfloat16 in training",
        "bf16": "Precision: bf16 on cpu (encoder weights in bfloat16",
    }
    for precision, line in lines.items():
        trainer = world.build("CoOp", tmp_path, "TRAINER.COOP.PREC", precision)
        assert line in capsys.readouterr().out
        assert trainer.precision == precision


def test_fp16_on_a_cpu_falls_back_to_fp32_with_a_warning(world, tmp_path, capsys):
    trainer = world.build("CoOp", tmp_path, "TRAINER.COOP.PREC", "fp16")
    out = capsys.readouterr().out
    assert "warning: PREC fp16 is not supported on cpu: running in fp32" in out
    assert "Precision: fp32 on cpu" in out
    assert trainer.precision == "fp32", "recorded in result.json"
    assert trainer.model.learner.clip_model.dtype == torch.float32


@pytest.mark.parametrize("make", [toy_clip, toy_resnet])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_encoders_are_close_to_float32(make, dtype):
    full, half = make().eval(), make().eval()
    in_half(half, dtype)
    size = full.visual.input_resolution
    image = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[49406, 320, 1125, 49407] + [0] * 73])
    features = []
    for model in (full, half):
        with torch.no_grad():
            embeddings = model.token_embedding(ids).to(model.dtype)
            packing = Packing([eot + 1 for eot in ids.argmax(-1).tolist()])
            text = encode_text(model, embeddings, packing)
            features.append((unit(encode_image(model.visual, image).pooled), unit(text)))
    for ours, theirs in zip(*features, strict=True):
        assert ours.dtype == theirs.dtype == torch.float32
        assert not torch.equal(ours, theirs)
        # Unit roundoff 2^-8 and 2^-11, about 10 successive roundings.
        bound = 10 * (2.0**-8 if dtype == torch.bfloat16 else 2.0**-11)
        assert torch.linalg.vector_norm(ours - theirs, dim=-1).max() < bound


def test_bfloat16_weights_are_rounded_from_float32():
    full, half, rounded = toy_clip(), toy_clip(), toy_clip()
    tiny = 1e-6  # float16 keeps 5 bits of it, bfloat16 all 8
    for model in (full, rounded):
        model.visual.proj.data[:] = tiny
    in_half(half, torch.float16)
    in_half(rounded, torch.bfloat16)
    assert torch.equal(rounded.visual.proj.data, full.visual.proj.data.bfloat16())
    names = [
        {n for n, p in m.named_parameters() if p.dtype == t}
        for m, t in ((half, torch.float16), (rounded, torch.bfloat16))
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("name", "node"), [c for c in TEST_CASES if c[0].startswith("TextRefinerC")]
)
def test_everything_after_the_encoders_is_float32(
    world, name, node, precision, tmp_path, monkeypatch
):
    """Compare cache, softmax over tokens, normalization and losses with float64."""
    prec = run_half_on_a_cpu(monkeypatch, precision)
    trainer = world.build(name, tmp_path, f"TRAINER.{node}.PREC", prec)
    model, seen = trainer.model, {}
    for method in ("encode_image", "encode_text"):
        original = getattr(model.learner, method)

        def keep(*args, _original=original, _name=method, **options):
            seen[_name] = _original(*args, **options)
            return seen[_name]

        monkeypatch.setattr(model.learner, method, keep)
    trainer.set_model_mode("train")
    exact = deepcopy(model.refiner).double()  # its cache is updated from its own entries
    trainer.num_batches = 100
    for step in range(12):
        batch = list(trainer.train_loader_x)[step % 3]
        before = {k: v.double() for k, v in model.refiner.state_dict().items()}
        adapter = deepcopy(getattr(model.learner, "adapter", nn.Identity())).double()
        summary = trainer.forward_backward(batch)
        before["cache.entries"] = exact.cache.entries
        exact.load_state_dict(before)
        tokens = seen["encode_image"]
        pooled = tokens.pooled.detach().double()
        ratio = getattr(model.learner, "ratio", 0.0)
        tokens = tokens._replace(pooled=(1 - ratio) * pooled + ratio * adapter(pooled))
        losses = exact_losses(exact, model, tokens, seen["encode_text"], batch)
        for key, value in losses.items():
            torch.testing.assert_close(summary[key].double(), value, rtol=1e-5, atol=1e-6)
    assert model.refiner.cache.entries.dtype == torch.float32
    # 12 roundings of 2^-24; bfloat16 entries are off by 2^-9 after the first.
    torch.testing.assert_close(
        model.refiner.cache.entries.double(), exact.cache.entries, rtol=0, atol=2e-6
    )


@torch.no_grad()
def exact_losses(refiner, model, tokens, text, batch):
    """Compute one step's losses in float64, and update the cache of ``refiner``.

    The pooled features of ``tokens`` are those that classify.
    """
    text, scale = text.detach().double(), model.learner.logit_scale.double()
    assert tokens.saliency.dtype == torch.float32
    refined = refiner.refine(text)
    logits = class_logits(F.normalize(tokens.pooled, dim=-1), refined, scale)
    local = refiner.align(tokens.local.double())
    refiner.cache.update(local)
    salient = salient_tokens(local, tokens.saliency, model.settings.topk)
    weights = model.settings
    return {
        "ce": F.cross_entropy(logits, batch["label"]),
        "semantic": weights.local_weight * semantic_loss(salient, text, batch["label"], scale),
        "regularizer": weights.reg_weight * regularizer(refined, text),
    }
