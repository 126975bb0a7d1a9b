"""The fast encoders match the naive ones in double precision to 1e-9."""

from types import SimpleNamespace

import pytest
import torch

from clip import clip
from tests.toy import toy_clip, toy_resnet_state_dict
from tests.trainers import naive
from trainers.encode import check_size, encode_image, encode_text
from trainers.prompting.packing import Packing
from trainers.settings import SettingsError

EXACT = {"rtol": 0, "atol": 1e-9}
TEXTS = ["a photo of a cat.", "a photo of a very large wind turbine.", "a photo of a dog."]


@pytest.fixture(scope="module")
def model():
    return toy_clip().double().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, 32, 32, generator=generator, dtype=torch.float64)


def deep_prompts(count, length, width):
    generator = torch.Generator().manual_seed(count)
    return [
        torch.randn(length, width, generator=generator, dtype=torch.float64) for _ in range(count)
    ]


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_image_tokens_equal_naive(model, images, depth):
    prompts = deep_prompts(depth, 2, 64)
    tokens = encode_image(model.visual, images, prompts, local=True)
    for b, image in enumerate(images):
        local, saliency = naive.image_tokens(model.visual, image, prompts)
        torch.testing.assert_close(tokens.local[b], local, **EXACT)
        torch.testing.assert_close(tokens.saliency[b], saliency, **EXACT)
    short = encode_image(model.visual, images, prompts)
    torch.testing.assert_close(short.pooled, tokens.local[:, 0], **EXACT)
    torch.testing.assert_close(tokens.pooled, tokens.local[:, 0], **EXACT)
    assert short.local is None
    assert short.saliency is None


def test_pooled_equals_encode_image(model, images):
    torch.testing.assert_close(
        encode_image(model.visual, images).pooled, model.encode_image(images), **EXACT
    )


@pytest.mark.parametrize(
    "sizes", [{"patch_size": 16}, {"vision_width": 128, "image_resolution": 48}]
)
def test_other_widths_and_patch_sizes(sizes):
    model = toy_clip(**sizes)
    side = sizes.get("image_resolution", 32)
    image = torch.randn(2, 3, side, side)
    tokens = encode_image(model.visual, image, local=True)
    patches = (side // sizes.get("patch_size", 8)) ** 2
    assert tokens.local.shape == (2, 1 + patches, 32)
    assert tokens.saliency.shape == (2, patches)
    torch.testing.assert_close(tokens.pooled, model.encode_image(image), rtol=1e-4, atol=1e-5)


def test_gradients_reach_visual_prompts(model, images):
    prompts = [p.requires_grad_() for p in deep_prompts(2, 2, 64)]
    encode_image(model.visual, images, prompts, local=True).local.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in prompts)


def test_wrong_image_size_raises_a_clear_error(model):
    with pytest.raises(SettingsError, match=r"set INPUT.SIZE to \(32, 32\)"):
        encode_image(model.visual, torch.zeros(1, 3, 64, 64, dtype=torch.float64))


def test_resnet_pools_but_has_no_tokens():
    model = clip.build_model(toy_resnet_state_dict()).float().eval()
    side = model.visual.input_resolution
    image = torch.randn(2, 3, side, side)
    torch.testing.assert_close(encode_image(model.visual, image).pooled, model.encode_image(image))
    with pytest.raises(SettingsError, match=rf"set INPUT.SIZE to \({side}, {side}\)"):
        encode_image(model.visual, torch.zeros(1, 3, 32, 32))
    with pytest.raises(SettingsError, match="no patch tokens"):
        encode_image(model.visual, image, local=True)


def embed(model, texts):
    ids = clip.tokenize(texts)
    return model.token_embedding(ids), ids.argmax(-1)


def packed(eot, start=0, most=None):
    return Packing([int(e) + 1 for e in eot], start, most)


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("most", [None, 2])
def test_text_equals_naive(model, depth, most):
    embeddings, eot = embed(model, TEXTS)
    prompts = deep_prompts(depth, 4, 64)
    naively = torch.stack(
        [naive.text_feature(model, e, i, prompts) for e, i in zip(embeddings, eot, strict=True)]
    )
    packing = packed(eot, 5, most)
    with_prefix = encode_text(model, embeddings[:, 5:], packing, embeddings[0, :5], prompts)
    torch.testing.assert_close(with_prefix, naively, **EXACT)
    if not depth:
        alone = encode_text(model, embeddings, packed(eot, most=most))
        torch.testing.assert_close(alone, naively, **EXACT)


def test_deep_prompts_need_a_prefix(model):
    embeddings, eot = embed(model, TEXTS)
    with pytest.raises(ValueError, match="replace tokens of the prefix, but prefix is None"):
        encode_text(model, embeddings, packed(eot), prompts=deep_prompts(1, 4, 64))


def test_text_equals_encode_text(model):
    embeddings, eot = embed(model, TEXTS)
    torch.testing.assert_close(
        encode_text(model, embeddings, packed(eot)),
        model.encode_text(clip.tokenize(TEXTS)),
        **EXACT,
    )


def test_prefix_per_image(model):
    embeddings, eot = embed(model, TEXTS)
    shift = torch.randn(2, 1, 64, dtype=torch.float64)
    prefix = embeddings[0, :5] + torch.cat([shift] * 5, 1)
    features = encode_text(model, embeddings[:, 5:], packed(eot, 5), prefix)
    assert features.shape == (2, 3, 32)
    for b in range(2):
        for c in range(3):
            whole = torch.cat([prefix[b], embeddings[c, 5:]])
            torch.testing.assert_close(
                features[b, c], naive.text_feature(model, whole, eot[c]), **EXACT
            )


def test_prefix_gradients_equal_those_of_full_prompts(model):
    embeddings, eot = embed(model, TEXTS)
    weight = torch.randn(3, 32, dtype=torch.float64)
    gradients = []
    for shared in (True, False):
        context = embeddings[0, 1:5].clone().requires_grad_()
        prefix = torch.cat([embeddings[0, :1], context])
        if shared:
            features = encode_text(model, embeddings[:, 5:], packed(eot, 5), prefix)
        else:
            whole = torch.cat([prefix.expand(3, -1, -1), embeddings[:, 5:]], 1)
            features = torch.stack(
                [naive.text_feature(model, e, i) for e, i in zip(whole, eot, strict=True)]
            )
        (features * weight).sum().backward()
        gradients.append(context.grad)
    torch.testing.assert_close(*gradients, **EXACT)


@pytest.mark.parametrize("size", [(70, 64), (64, 70), (32, 128), (65, 65), (128, 128)])
def test_images_of_another_size_are_refused(size):
    """Some of them have as many patches as the backbone has positions."""
    visual = SimpleNamespace(input_resolution=64)
    check_size(visual, 64, 64)
    with pytest.raises(SettingsError, match=r"takes 64x64: set INPUT\.SIZE to \(64, 64\)"):
        check_size(visual, *size)
