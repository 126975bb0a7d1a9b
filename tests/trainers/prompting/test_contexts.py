"""Compare prompts, token by token, with lists written by hand."""

import pytest
import torch

from clip import clip
from clip.simple_tokenizer import SimpleTokenizer
from tests.toy import toy_clip
from trainers.learner import class_tokens
from trainers.prompting.contexts import ContextPrompts
from trainers.settings import SettingsError

NAMES = ["cat", "wind_turbine", "very large dog"]


@pytest.fixture(scope="module")
def model():
    return toy_clip()


def whole(prompts):
    """Return embeddings (C, L, W) of a TextPrompts including its prefix."""
    if prompts.prefix is None:
        return prompts.embeddings
    prefix = prompts.prefix.expand(prompts.embeddings.shape[0], -1, -1)
    return torch.cat([prefix, prompts.embeddings], dim=1)


@pytest.mark.parametrize("class_specific", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("n_ctx", [1, 4, 5])
def test_layout(model, position, class_specific, n_ctx):
    learner = ContextPrompts(model, NAMES, n_ctx, "", class_specific, position)
    assert list(learner.state_dict()) == ["ctx"]
    assert learner.ctx.shape == ((3, n_ctx, 64) if class_specific else (n_ctx, 64))
    prompts = learner()
    embedding, encode = model.token_embedding.weight, SimpleTokenizer().encode
    for c, name in enumerate(NAMES):
        context = list(learner.ctx[c] if class_specific else learner.ctx)
        ids = encode(name.replace("_", " "))
        words = [embedding[i] for i in ids]
        half = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        body = [*context[:half], *words, *context[half:]]
        rows = [embedding[49406], *body, embedding[encode(".")[0]], embedding[49407]]
        assert prompts.packing.eot[c] == len(rows) - 1
        torch.testing.assert_close(whole(prompts)[c, : len(rows)], torch.stack(rows))


def test_context_init_sets_count_and_values(model, capsys):
    learner = ContextPrompts(model, NAMES, 16, "a_photo of a", class_specific=True)
    assert "N_CTX and CSC are ignored" in capsys.readouterr().out
    ids = clip.tokenize("a photo of a")[0, 1:5]
    torch.testing.assert_close(learner.ctx.detach(), model.token_embedding(ids).detach())
    assert learner.n_ctx == 4
    text = clip.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    expected = model.token_embedding(text[:, : learner.embeddings.shape[1]]).detach()
    torch.testing.assert_close(whole(learner()), expected)


@pytest.mark.parametrize("words", ["a photo of a ", " a  photo of a", "a_photo_of_a"])
def test_whitespace_in_the_initial_words_is_ignored(model, words):
    learner = ContextPrompts(model, NAMES, ctx_init=words)
    plain = ContextPrompts(model, NAMES, ctx_init="a photo of a")
    torch.testing.assert_close(whole(learner()), whole(plain()))


def test_blank_initial_words_are_ignored(model):
    assert ContextPrompts(model, NAMES, 3, ctx_init=" ").n_ctx == 3


def test_words_of_several_tokens(model, capsys):
    words = "an xylophonist"
    count = len(SimpleTokenizer().encode(words))
    learner = ContextPrompts(model, NAMES, ctx_init=words)
    assert f"The first 2 of its {count} tokens are learned" in capsys.readouterr().out
    text = clip.tokenize([f"{words} {name.replace('_', ' ')}." for name in NAMES])
    expected = model.token_embedding(text[:, : learner.embeddings.shape[1]]).detach()
    torch.testing.assert_close(whole(learner()), expected)
    with pytest.raises(SettingsError, match="every word must be one token"):
        ContextPrompts(model, NAMES, ctx_init=words, position="middle")


def test_random_context_has_coops_scale(model):
    torch.manual_seed(0)
    ctx = ContextPrompts(model, NAMES, 64).ctx
    assert float(ctx.detach().std()) == pytest.approx(0.02, rel=0.05)


def test_too_long_name_raises_a_clear_error(model):
    with pytest.raises(SettingsError, match=r"has 9\d tokens, but CLIP's context has 77"):
        class_tokens(model, "a photo of a", ["cat", "cat " * 84])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"position": "begin"}, "must be one of end, middle, front, got 'begin'"),
        ({"n_ctx": 0}, "N_CTX must be at least 1, got 0"),
    ],
)
def test_invalid_contexts_raise(model, arguments, message):
    with pytest.raises(SettingsError, match=message):
        ContextPrompts(model, NAMES, **arguments)


def test_shift_moves_the_context_per_image(model):
    learner, shift = ContextPrompts(model, NAMES, 4), torch.randn(2, 64)
    prefix = learner(shift).prefix
    assert prefix.shape == (2, 5, 64)
    for b in range(2):
        torch.testing.assert_close(prefix[b, 1:], learner.ctx + shift[b])
    with pytest.raises(SettingsError, match="name at the end"):
        ContextPrompts(model, NAMES, 4, position="front")(shift)
