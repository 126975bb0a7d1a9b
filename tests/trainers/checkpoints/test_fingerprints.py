"""Identify the CLIP of a checkpoint in any precision and under any name."""

import pytest
import torch

from dassl.utils import write_json
from tests.toy import toy_clip, toy_resnet
from trainers.checkpoints.fingerprints import check_clip_fingerprint, clip_fingerprint
from trainers.settings import SettingsError

SETTING = "MODEL.BACKBONE.NAME"


def record(folder, clip_model, backbone="ViT-B/16"):
    clip = clip_fingerprint(clip_model.state_dict())
    write_json({"backbone": backbone, "clip": clip}, folder / "checkpoint.json")
    return str(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_same_clip_under_another_name_and_in_another_precision(tmp_path, dtype):
    folder = record(tmp_path, toy_clip())
    check_clip_fingerprint(folder, toy_clip().to(dtype), SETTING, "/elsewhere/ViT-B-16.pt")


@pytest.mark.parametrize(
    "other",
    [toy_clip(seed=1), toy_clip(text_width=128), toy_clip(embed_dim=64), toy_resnet(seed=1)],
    ids=["weights", "text_width", "embed_dim", "resnet"],
)
def test_another_clip_is_named(tmp_path, other):
    folder = record(tmp_path, toy_clip())
    message = (
        f"the model in {tmp_path} was trained with the backbone ViT-B/16, but MODEL.BACKBONE.NAME "
        "is RN50: set MODEL.BACKBONE.NAME to the backbone of the training"
    )
    with pytest.raises(SettingsError, match=message):
        check_clip_fingerprint(folder, other, SETTING, "RN50")
    with pytest.raises(SettingsError, match="is ViT-B/16 with other weights"):
        check_clip_fingerprint(folder, other, SETTING, "ViT-B/16")


def test_folders_without_a_record_are_not_checked(tmp_path):
    check_clip_fingerprint(str(tmp_path), toy_clip(), SETTING, "ViT-B/16")
    write_json({"method": "CoOp"}, tmp_path / "checkpoint.json")
    check_clip_fingerprint(str(tmp_path), toy_clip(), SETTING, "ViT-B/16")


def test_samples_are_values_of_the_weight():
    weight = torch.arange(12.0).view(3, 4)
    fingerprint = clip_fingerprint({"text_projection": weight, "visual.proj": weight})
    numbers = "0.00000 2.00000 4.00000 6.00000 8.00000 10.00000"
    assert fingerprint == {"text_projection": {"shape": "3 x 4", "sample": numbers}}
