"""The renderer draws the requested creature, look and background."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from datasets.critters_world import (
    BACKGROUNDS,
    COLORS,
    GENERA,
    LOOKS,
    ORNAMENTS,
    PATTERNS,
    PHOTO,
    SHIFTS,
    SPECIES,
    STYLES,
    TAILS,
    Creature,
    downstream_species,
    render,
)

PLAIN = Creature("wug", "none", "none", "plain", "red")
VALUES = {
    "genus": GENERA,
    "ornament": ORNAMENTS,
    "tail": TAILS,
    "pattern": PATTERNS,
    "color": COLORS,
}


def draw(creature=PLAIN, background="snow", look=PHOTO, seed=(1, 2), size=64):
    return render(creature, background, look, np.random.RandomState(seed), size)


def test_rendering_is_deterministic():
    first, second = draw(), draw()
    assert first.image.shape == (64, 64, 3)
    assert first.image.dtype == np.uint8
    np.testing.assert_array_equal(first.image, second.image)
    assert not np.array_equal(first.image, draw(seed=(1, 3)).image)


@pytest.mark.parametrize("attribute", VALUES)
def test_every_value_of_an_attribute_looks_different(attribute):
    pictures = [draw(replace(PLAIN, **{attribute: value})) for value in VALUES[attribute]]
    assert len({picture.image.tobytes() for picture in pictures}) == len(VALUES[attribute])


def test_every_background_and_look_is_drawn():
    looks = {**STYLES, **LOOKS}
    pictures = {draw(background=background).image.tobytes() for background in BACKGROUNDS}
    assert len(pictures) == len(BACKGROUNDS)
    creature = replace(PLAIN, pattern="striped")
    pictures = {draw(creature, look=look, seed=(5, 1)).image.tobytes() for look in looks.values()}
    # "photo" is a style and the identity shift; this individual is in the hue-shifted
    # half of morph50, and so looks as it does under hue36.
    assert len(pictures) >= len(looks) - 3


def test_parts_are_at_their_positions_in_the_image():
    bare = draw()
    assert 0.05 < bare.body.mean() < 0.6
    assert not bare.ornament.any()
    assert not bare.tail.any()
    full = draw(replace(PLAIN, ornament="horn", tail="long"))
    assert full.ornament.any()
    assert full.tail.any()
    assert not (full.body & (full.ornament | full.tail)).any()
    rows = np.arange(64)[:, None]
    height = {
        name: (rows * mask).sum() / mask.sum()
        for name, mask in full._asdict().items()
        if name != "image"
    }
    assert height["ornament"] < height["body"]  # rows are counted from the top


def test_body_has_the_color_of_the_creature():
    picture = draw(replace(PLAIN, color="red"), look=replace(PHOTO, occlusion=0.0, clutter=0))
    red, green, blue = picture.image[picture.body].mean(0)
    assert red > 1.5 * max(green, blue)
    shifted = draw(look=replace(PHOTO, occlusion=0.0, clutter=0, hue_shift=1 / 3))
    red, green, blue = shifted.image[shifted.body].mean(0)
    assert green > 1.5 * max(red, blue)


def test_hue_shift_applies_to_its_share_of_the_individuals():
    look = replace(PHOTO, hue_shift=1 / 3, hue_share=0.5, occlusion=0.0)
    pictures = [draw(look=look, seed=(9, i)) for i in range(60)]
    means = np.array([picture.image[picture.body].mean(0) for picture in pictures])
    assert 18 <= (means[:, 1] > means[:, 0]).sum() <= 42


@pytest.mark.parametrize("size", [32, 96])
def test_scene_does_not_depend_on_the_image_size(size):
    small, large = draw(look=replace(PHOTO, noise=0.0)), draw(size=size)
    assert large.image.shape == (size, size, 3)
    assert abs(small.body.mean() - large.body.mean()) < 0.05


def test_images_of_this_world_version_are_unchanged():
    """Color means of three images; increase folder.WORLD_VERSION if they have to change."""
    species = [SPECIES[i].creature for i in (0, 30, 71)]
    looks = [PHOTO, STYLES["sketch"], SHIFTS["morph50"]]
    means = [
        draw(creature, BACKGROUNDS[i], look, seed=(2026, i)).image.mean((0, 1))
        for i, (creature, look) in enumerate(zip(species, looks, strict=True))
    ]
    expected = [[185.56, 192.06, 177.5], [196.84, 199.28, 182.0], [212.48, 212.67, 172.69]]
    np.testing.assert_allclose(means, expected, atol=0.5)


def test_species_are_distinguishable_by_their_attributes():
    assert len(SPECIES) == 72
    assert len({species.name for species in SPECIES}) == 72
    for genus in GENERA:
        looks = [s.creature for s in SPECIES if s.creature.genus == genus]
        assert len({(c.ornament, c.tail, c.pattern) for c in looks}) == 12


def test_epithet_refers_to_one_attribute():
    by_name = {species.name: species.creature for species in SPECIES}
    for genus in GENERA:
        assert by_name[f"horned {genus}"].ornament == "horn"
        assert by_name[f"forktail {genus}"].tail == "forked"
        assert by_name[f"ringed {genus}"].pattern == "ringed"


def test_species_are_split_into_two_datasets():
    datasets = downstream_species(0), downstream_species(1)
    halves = [species[start : start + 18] for species in datasets for start in (0, 18)]
    assert [len(species) for species in datasets] == [36] * 2
    assert {species for half in halves for species in half} == set(range(72))


def test_every_setting_of_a_look_changes_the_image():
    """A setting that changes no image is unused."""
    changes = {
        "scale": (0.3, 0.4), "rotation": 80.0, "warp": 0.2, "outline": 0.8, "fill": 0.3,
        "saturation": 0.3, "hue_noise": 0.2, "hue_shift": 0.3, "pattern_contrast": 0.4,
        "paper": 0.5, "clutter": 60, "occlusion": 1.0, "darkness": 0.5, "levels": 4, "blur": 2,
        "noise": 0.2,
    }  # fmt: skip
    creature = replace(PLAIN, pattern="striped")
    before = draw(creature, seed=(1, 6)).image
    for name, value in changes.items():
        after = draw(creature, look=replace(PHOTO, **{name: value}), seed=(1, 6)).image
        assert not np.array_equal(before, after), name
    everyone = draw(creature, look=replace(PHOTO, hue_shift=0.3), seed=(1, 6)).image
    nobody = draw(creature, look=replace(PHOTO, hue_shift=0.3, hue_share=0.0), seed=(1, 6)).image
    assert not np.array_equal(everyone, nobody)
    assert {*changes, "hue_share"} == {field.name for field in fields(PHOTO)}
