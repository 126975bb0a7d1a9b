"""Captions describe their scene and use only words of the vocabulary."""

import numpy as np
import pytest
import torch
from open_clip import SIMPLE_IMAGENET_TEMPLATES

import clip
from assets.critters.captions import FACTS, NO_SPECIES, Scene, Vocabulary, caption
from assets.critters.pool import LENGTH, random_scene
from dassl.utils import UsageError
from datasets.critters_world import SPECIES, Creature


def scenes(count: int) -> list[Scene]:
    return [random_scene(np.random.RandomState([4, i])) for i in range(count)]


def test_labels_follow_the_order_of_facts():
    creature = Creature("fep", "crest", "fan", "belted", "grey")
    labels = Scene(None, creature, "forest", "blurry").labels()
    assert labels == [NO_SPECIES, 2, 4, 4, 5, 7, 5, 4]
    assert Scene(7, SPECIES[7].creature, "grass", "photo").labels()[0] == 7
    names = [values[i] for values, i in zip(FACTS.values(), labels, strict=True)][1:]
    assert names == ["fep", "crest", "fan", "belted", "grey", "forest", "blurry"]


def test_captions_agree_with_the_facts_they_mention():
    """Otherwise the loss would match a caption with an image that it does not describe."""
    for i, scene in enumerate(scenes(300)):
        text, mentioned = caption(scene, np.random.RandomState(i))
        for fact, value in {
            "color": scene.creature.color,
            "ornament": scene.creature.ornament,
            "background": scene.background,
        }.items():
            if fact in mentioned:
                assert value in text
        assert "genus" in mentioned
        assert scene.creature.genus in text
        named = scene.species is not None and SPECIES[scene.species].name in text
        assert ("species" in mentioned) <= named
        for style in ("sketch", "painting", "dark", "blurry"):
            if style in text:
                assert scene.style == style
                assert "style" in mentioned


def test_captions_include_clips_templates():
    texts = {caption(scenes(1)[0], np.random.RandomState(i))[0] for i in range(400)}
    for template in SIMPLE_IMAGENET_TEMPLATES:
        start = template("|").split("|")[0]
        assert any(text.startswith(start) for text in texts), start


def test_vocabulary_covers_captions_and_prompts():
    vocabulary = Vocabulary()
    texts = [caption(scene, np.random.RandomState(i))[0] for i, scene in enumerate(scenes(400))]
    for species in SPECIES[:12]:  # every epithet
        texts += [template(species.name) for template in SIMPLE_IMAGENET_TEMPLATES]
        texts += [f"a photo of a {species.name}.", f"X X X X {species.name}."]
    tokens = clip.tokenize(texts).long()
    rows = vocabulary.rows(tokens)
    torch.testing.assert_close(vocabulary.ids[rows], tokens)
    assert torch.equal(rows.argmax(-1), tokens.argmax(-1))  # end-of-text has the largest id
    assert int((tokens[:400] != 0).sum(-1).max()) <= LENGTH
    assert len(vocabulary) < 200


def test_unknown_word_raises():
    with pytest.raises(UsageError, match="vocabulary_texts"):
        Vocabulary().rows(clip.tokenize("a photo of a zeppelin.").long())
