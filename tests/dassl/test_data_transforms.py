"""Transforms by name, compared with explicit formulas where possible."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from dassl.data.transforms import INTERPOLATION_MODES, build_transform
from dassl.data.transforms.extras import (
    FIXMATCH_RANGES,
    OPERATIONS,
    RANDAUGMENT2_RANGES,
    Cutout,
    GaussianNoise,
    InstanceNormalization,
    RandAugment2,
    RandAugmentFixMatch,
    Random2DTranslation,
)
from dassl.data.transforms.transforms import AVAI_CHOICES
from dassl.utils import UsageError
from tests.toy_data import data_config

ALL_NAMES = [
    "random_flip",
    "random_resized_crop",
    "normalize",
    "instance_norm",
    "random_crop",
    "random_translation",
    "center_crop",
    "cutout",
    "imagenet_policy",
    "cifar10_policy",
    "svhn_policy",
    "randaugment",
    "randaugment_fixmatch",
    "randaugment2",
    "gaussian_noise",
    "colorjitter",
    "randomgrayscale",
    "gaussian_blur",
]


def image(width=40, height=30):
    """Return noise of medium brightness, so that contrast changes the image."""
    pixels = np.random.default_rng(0).integers(50, 200, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def config(*transforms, **options):
    options = {f"INPUT.{key}": value for key, value in options.items()}
    return data_config("", "", {"INPUT.TRANSFORMS": tuple(transforms), **options})


def logged(capsys):
    return [line.removeprefix("+ ") for line in capsys.readouterr().out.splitlines()]


def test_names_are_those_of_dassl():
    assert set(AVAI_CHOICES) == set(ALL_NAMES)


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_transform_builds_and_keeps_the_size(name):
    for seed in range(5):
        random.seed(seed)
        torch.manual_seed(seed)
        output = build_transform(config(name, SIZE=(24, 20)))(image())
        assert output.shape == (3, 24, 20)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_unknown_transform_names_the_nearest_and_all():
    with pytest.raises(UsageError, match=r"'random_filp': did you mean 'random_flip'") as error:
        build_transform(config("random_filp"))
    assert all(name in str(error.value) for name in ALL_NAMES)


def test_unknown_interpolation():
    with pytest.raises(UsageError, match=r"INPUT.INTERPOLATION is 'cubic': did you mean 'bicubic'"):
        build_transform(config(INTERPOLATION="cubic"))


def test_test_transform(capsys):
    cfg = config("normalize", "random_flip", SIZE=(16, 24), INTERPOLATION="bicubic")
    output = build_transform(cfg, is_train=False)(image(40, 30))
    # The smaller edge becomes 24: 32 x 24, of which the middle 24 x 16 is kept.
    pixels = np.asarray(image(40, 30).resize((32, 24), Image.Resampling.BICUBIC))[4:20, 4:28]
    scaled = torch.from_numpy(pixels.transpose(2, 0, 1) / 255.0)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD))
    torch.testing.assert_close(output, ((scaled - mean) / std).float())
    assert logged(capsys) == [
        "Building transform_test",
        "resize the smaller edge to 24",
        "16x24 center crop",
        "to torch tensor of range [0, 1]",
        "normalization (mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])",
    ]


def test_without_normalize_values_are_in_0_1():
    output = build_transform(config(), is_train=False)(image(32, 32))
    expected = torch.from_numpy(np.asarray(image(32, 32)).transpose(2, 0, 1) / 255.0).float()
    torch.testing.assert_close(output, expected)


def test_train_transform_resizes_unless_a_crop_does(capsys):
    build_transform(config("random_flip"))
    assert logged(capsys)[1:3] == ["resize to 32x32", "random flip"]
    build_transform(config("normalize", "random_flip", "random_resized_crop"))
    assert logged(capsys)[1:4] == [
        "random resized crop (size=(32, 32), scale=(0.08, 1.0))",
        "random flip",
        "to torch tensor of range [0, 1]",
    ]
    build_transform(config("random_crop"))
    assert logged(capsys)[1] == "random crop (padding=4)"


def test_settings_are_passed_to_the_transforms():
    transform = build_transform(
        config(
            *("random_resized_crop", "randaugment", "colorjitter", "cutout", "gaussian_blur"),
            RRCROP_SCALE=(0.5, 0.6),
            RANDAUGMENT_N=3,
            RANDAUGMENT_M=7,
            COLORJITTER_H=0.2,
            CUTOUT_N=2,
            GB_P=0.25,
            INTERPOLATION="bicubic",
        )
    )
    crop, augment, jitter, blur, _, cutout = transform.transforms
    assert (crop.scale, crop.interpolation) == ((0.5, 0.6), INTERPOLATION_MODES["bicubic"])
    assert (augment.num_ops, augment.magnitude) == (3, 7)
    assert jitter.hue == (-0.2, 0.2)
    assert blur.p == 0.25
    assert cutout.n_holes == 2


def test_center_crop_is_not_used_in_training(capsys):
    build_transform(config("center_crop"))
    assert "center_crop is always used in testing" in capsys.readouterr().out


def test_given_choices_replace_those_of_the_config():
    transform = build_transform(config("cutout"), choices=["random_flip"])
    assert [type(step).__name__ for step in transform.transforms] == [
        "Resize",
        "RandomHorizontalFlip",
        "ToTensor",
    ]


def test_no_transform():
    assert build_transform(config(NO_TRANSFORM=True)) is None


def test_instance_normalization():
    pixels = torch.rand(3, 8, 8) * torch.tensor([1.0, 5.0, 9.0]).view(3, 1, 1)
    output = InstanceNormalization()(pixels)
    torch.testing.assert_close(output.mean((1, 2)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(output.flatten(1).std(1), torch.ones(3))


def test_cutout_zeroes_squares_and_does_not_modify_its_input():
    pixels = torch.ones(3, 64, 64)
    for seed in range(20):
        torch.manual_seed(seed)
        holes = Cutout(n_holes=1, length=8)(pixels) == 0
        rows, columns = holes[0].nonzero(as_tuple=True)
        height, width = (int(i.max() - i.min()) + 1 for i in (rows, columns))
        assert 4 <= height <= 8
        assert 4 <= width <= 8
        assert int(holes.sum()) == 3 * height * width
    assert pixels.min() == 1


def test_gaussian_noise():
    torch.manual_seed(0)
    zeros = torch.zeros(3, 100, 100)
    noise = GaussianNoise(mean=1.0, std=0.5, p=1.0)(zeros)
    assert noise.mean() == pytest.approx(1.0, abs=0.02)
    assert noise.std() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(GaussianNoise(p=0.0)(zeros), zeros)


def test_translation_crops_the_enlarged_image():
    picture = image(32, 16)
    enlarged = np.asarray(picture.resize((36, 18), Image.Resampling.BILINEAR))
    places = [enlarged[t : t + 16, l : l + 32] for t in range(3) for l in range(5)]  # noqa: E741
    found = set()
    for seed in range(200):
        random.seed(seed)
        crop = np.asarray(Random2DTranslation(16, 32, p=1.0)(picture))
        (place,) = [n for n, expected in enumerate(places) if np.array_equal(crop, expected)]
        found.add(place)
    assert found == set(range(15))
    plain = np.asarray(Random2DTranslation(16, 32, p=0.0)(picture))
    assert np.array_equal(plain, np.asarray(picture))


# Strengths at which an operation does not change the image.
NEUTRAL = {
    "brightness": 1.0,
    "color": 1.0,
    "contrast": 1.0,
    "identity": 0.3,
    "posterize": 8.0,
    "rotate": 0.0,
    "sharpness": 1.0,
    "shear_x": 0.0,
    "shear_y": 0.0,
    "solarize": 256.0,
    "translate_x": 0.0,
    "translate_y": 0.0,
}


@pytest.mark.parametrize("name", NEUTRAL)
def test_operations_at_their_neutral_strength(name):
    assert np.array_equal(np.asarray(OPERATIONS[name](image(), NEUTRAL[name])), np.asarray(image()))


@pytest.mark.parametrize("ranges", [FIXMATCH_RANGES, RANDAUGMENT2_RANGES])
def test_operations_at_the_ends_of_their_ranges(ranges):
    for name, ends in ranges.items():
        for end in ends:
            output = OPERATIONS[name](image(), end)
            assert output.size == (40, 30)
            if name != "identity" and end != NEUTRAL.get(name):
                assert not np.array_equal(np.asarray(output), np.asarray(image())), (name, end)


def test_translation_moves_by_the_fraction():
    moved = np.asarray(OPERATIONS["translate_x"](image(), 0.25))
    assert np.array_equal(moved[:, 10:], np.asarray(image())[:, :30])
    assert not moved[:, :10].any()


def test_random_operations_follow_pythons_random():
    for augment in (RandAugmentFixMatch(2), RandAugment2(2)):
        outputs = []
        for seed in (1, 1, 2):
            random.seed(seed)
            outputs.append(np.asarray(augment(image())))
        assert np.array_equal(outputs[0], outputs[1])
        assert not np.array_equal(outputs[0], outputs[2])


def test_randaugment2_skips_operations():
    assert np.array_equal(np.asarray(RandAugment2(n=9, p=0.0)(image())), np.asarray(image()))
