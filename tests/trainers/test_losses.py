"""Compare the losses with loops over images and classes."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.trainers import naive
from trainers.losses import (
    class_logits,
    distillation_loss,
    regularizer,
    salient_tokens,
    semantic_loss,
)


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "local": normal(3, 8, 5),
        "saliency": normal(3, 7).softmax(-1),
        "text": F.normalize(normal(4, 5), dim=-1),
        "texts": F.normalize(normal(3, 4, 5), dim=-1),
        "label": torch.tensor([2, 0, 3]),
        "scale": torch.tensor(7.0, dtype=torch.float64),
    }


def naive_salient(local, saliency, topk):
    rows = []
    for tokens, attention in zip(local, saliency, strict=True):
        best = sorted(range(len(attention)), key=lambda p: -float(attention[p]))[:topk]
        rows.append(torch.stack([tokens[0], *[tokens[1 + p] for p in best], tokens.mean(0)]))
    return torch.stack(rows)


@pytest.mark.parametrize("topk", [0, 1, 5, 7])
def test_salient_tokens(tensors, topk):
    local, saliency = tensors["local"], tensors["saliency"]
    result = salient_tokens(local, saliency, topk)
    assert result.shape == (3, topk + 2, 5)
    torch.testing.assert_close(result, naive_salient(local, saliency, topk))


@pytest.mark.parametrize("per_image", [False, True])
def test_semantic_loss(tensors, per_image):
    text = tensors["texts" if per_image else "text"]
    salient = naive_salient(tensors["local"], tensors["saliency"], 5)
    total, count = 0.0, 0
    for b in range(3):
        classes = text[b] if per_image else text
        for token in salient[b]:
            logits = [float(tensors["scale"] * token @ c) for c in classes]
            total -= logits[int(tensors["label"][b])] - math.log(sum(map(math.exp, logits)))
            count += 1
    loss = semantic_loss(salient, text, tensors["label"], tensors["scale"])
    assert float(loss) == pytest.approx(total / count, abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_distillation_loss(tensors, temperature):
    ours, theirs = tensors["local"][0, :3], tensors["local"][1, :3]
    expected = sum(naive.kl(t, o, temperature) for t, o in zip(theirs, ours, strict=True)) / 15
    loss = distillation_loss(ours, theirs, temperature)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    # A softmax is invariant to a shift of its logits.
    assert float(distillation_loss(ours, ours + 1, temperature)) == pytest.approx(0, abs=1e-12)


def test_class_logits_of_different_shapes_match(tensors):
    features = tensors["local"][:, 0]
    same = tensors["text"].expand(3, -1, -1)
    torch.testing.assert_close(
        class_logits(features, tensors["text"], tensors["scale"]),
        class_logits(features, same, tensors["scale"]),
    )


def test_regularizer_and_its_gradient(tensors):
    text = tensors["text"].clone().requires_grad_()
    refined = (tensors["text"] + 0.3).requires_grad_()
    expected = 0.0
    for r, t in zip(refined.detach(), text.detach(), strict=True):
        expected += float((r / r.norm() - t).abs().sum()) / text.numel()
    loss = regularizer(refined, text)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    loss.backward()
    assert text.grad.abs().sum() > 0
    assert refined.grad.abs().sum() > 0
