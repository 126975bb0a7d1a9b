"""Load checkpoints of this project, of CoOp and of the authors' release, and report errors."""

import os
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clip import clip
from dassl.utils import write_json
from tests.conftest import DATA
from tests.toy import toy_clip
from tests.trainers import naive
from trainers.checkpoints.load import load_trained
from trainers.checkpoints.record import read_record
from trainers.coop import CoOpLearner
from trainers.prompting.contexts import ContextPrompts
from trainers.settings import RefinerSettings, SettingsError
from trainers.trainer import RefinedCLIP, build_refiner

NAMES = ["face", "yin_yang", "water_lilly"]
DEFAULTS = RefinerSettings()


def build(clip_model, classnames=NAMES, refined=True, context="a photo of a"):
    learner = CoOpLearner(clip_model, ContextPrompts(clip_model, classnames, ctx_init=context))
    if not refined:
        return RefinedCLIP(learner)
    dim = clip_model.text_projection.shape[1]
    return RefinedCLIP(learner, build_refiner(clip_model, dim, DEFAULTS), DEFAULTS).eval()


def load(model, folder, epoch=4, classnames=NAMES):
    modules, clip_model = model.trainable_modules(), model.learner.clip_model
    load_trained(modules, str(folder), epoch, clip_model, classnames)
    return model


def naive_refined(clip_model, classnames, ctx, cache, extractor, alpha=0.2):
    """Compute T' of method.md from the raw arrays, one class at a time."""
    rows = []
    for name in classnames:
        ids = clip.tokenize(f"a photo of a {name.replace('_', ' ')}.")[0]
        embedding = clip_model.token_embedding(ids)
        embedding = torch.cat([embedding[:1], ctx, embedding[1 + len(ctx) :]])
        text = F.normalize(naive.text_feature(clip_model, embedding, int(ids.argmax())), dim=-1)
        mix = (cache @ text).exp()
        read = (mix[:, None] * cache).sum(0) / mix.sum()
        rows.append(text + alpha * extractor @ torch.cat([text, read]))
    return torch.stack(rows)


@pytest.fixture(scope="module")
def release_clip(release_run):
    return clip.load(str(release_run / "clip_tiny.pt"), device="cpu")[0].requires_grad_(False)


def test_release_folder_reproduces_the_releases_refined_features(release_run, release_clip):
    names = [str(name) for name in np.load(DATA / "release_eval.npz")["new/classnames"]]
    model = load(build(release_clip, names), release_run / "release_run")
    raw = {
        name: torch.load(release_run / f"release_run/{name}/model.pth.tar-4", weights_only=False)
        for name in ("prompt_learner", "Memory")
    }
    expected = naive_refined(
        release_clip,
        names,
        raw["prompt_learner"]["state_dict"]["prompt_learner.ctx"].detach(),
        raw["Memory"]["memory_item"].detach(),
        raw["Memory"]["state_dict"]["extractor.weight"].detach(),
    )
    with torch.no_grad():
        torch.testing.assert_close(model.class_features(), expected, rtol=0, atol=2e-6)
    align = raw["prompt_learner"]["state_dict"]["mid_image_trans.conv1.3.weight"]
    assert torch.equal(model.refiner.align.outer.weight, align.flatten(1))


def as_release_folder(folder, trace, clip_model):
    """Write the last state of a recorded run in the layout of the authors' release."""

    def tensor(key):
        return torch.from_numpy(np.array(trace[key]))

    state = {"logit_scale": clip_model.logit_scale, "prompt_learner.ctx": tensor("step/19/ctx")}
    state["prompt_learner.token_prefix"] = torch.zeros(10, 1, 64)
    for name, value in clip_model.state_dict().items():
        old = f"text_encoder.{name}".replace("text_encoder.visual.", "image_encoder.")
        if name != "logit_scale":
            state[old] = value
    prefix = "step/19/debug/mid_image_trans_after/"
    for key in trace.files:
        if key.startswith(prefix):
            state[f"mid_image_trans.{key[len(prefix) :]}"] = tensor(key)
    memory = {
        "memory_item": tensor("step/19/cache"),
        "state_dict": {"extractor.weight": tensor("step/19/extractor")},
    }
    for name, content in (("prompt_learner", {"state_dict": state}), ("Memory", memory)):
        (folder / name).mkdir(parents=True)
        torch.save({**content, "epoch": 10}, folder / name / "model.pth.tar-10")


def test_recorded_final_state_reproduces_the_recorded_features(tmp_path):
    trace = np.load(DATA / "coop.npz")
    weights = {k[5:]: torch.from_numpy(np.array(trace[k])) for k in trace.files if k[:5] == "clip/"}
    clip_model = clip.build_model(weights).float().requires_grad_(False)
    as_release_folder(tmp_path, trace, clip_model)
    names = [str(name) for name in trace["classnames"]]
    model = load(build(clip_model, names), tmp_path, epoch=10)
    recorded = torch.from_numpy(np.array(trace["eval/fine_text_features"]))
    with torch.no_grad():
        torch.testing.assert_close(model.class_features(), recorded, rtol=0, atol=2e-6)


def save_own(model, folder, epoch=4):
    for name, module in model.trainable_modules().items():
        (folder / name).mkdir(parents=True)
        content = {"state_dict": module.state_dict(), "epoch": epoch}
        torch.save(content, folder / name / f"model.pth.tar-{epoch}")


@pytest.fixture(scope="module")
def toy():
    return toy_clip().requires_grad_(False)


def test_our_own_layout_round_trips_and_is_small(toy, tmp_path):
    model = build(toy)
    save_own(model, tmp_path)
    other = load(build(toy, ["cat"]), tmp_path)
    for name, module in other.trainable_modules().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, model.trainable_modules()[name].state_dict()[key])
    size = sum(os.path.getsize(p) for p in tmp_path.rglob("model*"))
    assert size < 100_000, "nothing of CLIP belongs into a checkpoint"


def test_coop_checkpoint_with_class_buffers_loads(toy, tmp_path):
    ctx = torch.randn(4, 64)
    state = {
        "ctx": ctx,
        "token_prefix": torch.zeros(9, 1, 64),
        "token_suffix": torch.zeros(9, 72, 64),
    }
    (tmp_path / "prompt_learner").mkdir()
    content = {"state_dict": state, "epoch": 50, "optimizer": None}
    torch.save(content, tmp_path / "prompt_learner" / "model.pth.tar-50")
    model = load(build(toy, refined=False), tmp_path, epoch=50)
    assert torch.equal(model.learner.prompts.ctx, ctx)


def spoil(folder, name, change):
    path = folder / name / "model.pth.tar-4"
    content = torch.load(path)
    change(content["state_dict"])
    torch.save(content, path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("prompt_learner", lambda s: s.pop("ctx"), "prompt_learner .* lacks ctx"),
        ("prompt_learner", lambda s: s.update(meta=s["ctx"]), "adds meta; expected exactly ctx"),
        (
            "prompt_learner",
            lambda s: s.update(ctx=s["ctx"][:2]),
            r"shape \(2, 64\), but this model has \(4, 64\)",
        ),
        (
            "prompt_learner",
            lambda s: s.update(ctx=s["ctx"].T),
            r"shape \(64, 4\), but this model has \(4, 64\)",
        ),
        ("Memory", lambda s: s.pop("cache.entries"), "Memory .* lacks cache.entries"),
        ("Memory", lambda s: s.update({"conv9.bias": s["cache.entries"]}), "adds conv9.bias"),
    ],
)
def test_every_key_is_accounted_for(toy, tmp_path, name, change, message):
    save_own(build(toy), tmp_path)
    spoil(tmp_path, name, change)
    with pytest.raises(SettingsError, match=message):
        load(build(toy), tmp_path)


def test_refined_checkpoint_in_a_plain_trainer_and_vice_versa(toy, tmp_path):
    save_own(build(toy), tmp_path)
    with pytest.raises(
        SettingsError, match="contains checkpoints of Memory, prompt_learner, but this "
    ):
        load(build(toy, refined=False), tmp_path)
    shutil.rmtree(tmp_path / "Memory")
    with pytest.raises(SettingsError, match="this trainer needs Memory, prompt_learner"):
        load(build(toy), tmp_path)


def test_release_alignment_without_a_refiner_is_named(release_run, release_clip, tmp_path):
    shutil.copytree(release_run / "release_run/prompt_learner", tmp_path / "prompt_learner")
    with pytest.raises(SettingsError, match=r"Memory.align.inner.weight.*TextRefinerCoOp"):
        load(build(release_clip, refined=False), tmp_path)


def test_release_checkpoint_of_another_clip_is_named(release_run, release_clip):
    other = toy_clip(
        vision_width=release_clip.visual.conv1.weight.shape[0],
        text_width=release_clip.ln_final.weight.shape[0],
    )
    with pytest.raises(SettingsError, match=r"trained with another CLIP .* differs"):
        load(build(other), release_run / "release_run")


def test_missing_epoch_lists_the_available_checkpoints(toy, tmp_path):
    save_own(build(toy), tmp_path)
    with pytest.raises(SettingsError, match=r"contains model.pth.tar-4: choose an epoch"):
        load(build(toy), tmp_path, epoch=7)
    with pytest.raises(SettingsError, match=r"model-best.pth.tar does not exist"):
        load(build(toy), tmp_path, epoch=None)
    with pytest.raises(SettingsError, match="is not a folder"):
        load(build(toy), tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("prompt_learner", lambda s: s["ctx"].fill_(torch.nan), "prompt_learner.ctx .*not finite"),
        ("Memory", lambda s: s["cache.entries"].fill_(torch.inf), "cache.entries .*not finite"),
        (
            "prompt_learner",
            lambda s: s.update(ctx=s["ctx"].long()),
            r"prompt_learner.ctx .* has the type torch\.int64",
        ),
        (
            "Memory",
            lambda s: s.update({"align.norm.num_batches_tracked": torch.tensor(1.5)}),
            "num_batches_tracked .* has the type torch.float32",
        ),
        (
            "Memory",
            lambda s: s["align.norm.running_var"].fill_(-1.0),
            "align.norm.running_var .* has negative variances",
        ),
    ],
)
def test_values_that_no_training_writes(toy, tmp_path, name, change, message):
    save_own(build(toy), tmp_path)
    spoil(tmp_path, name, change)
    with pytest.raises(SettingsError, match=f"{message}.*choose another epoch, or train again"):
        load(build(toy), tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epoch": "4"}, "its epoch is not a whole number"),
        ({"epoch": torch.tensor(4)}, "its epoch is not a whole number"),
        ({"state_dict": [1]}, "its state_dict is not a table of tensors"),
        ({"state_dict": {"ctx": 3}}, "its state_dict is not a table of tensors"),
        ({"val_result": "high"}, "its val_result is not a number"),
        ({"memory_item": [1.0]}, "its memory_item is not a tensor"),
    ],
)
def test_content_of_another_form(toy, tmp_path, change, reason):
    save_own(build(toy), tmp_path)
    path = tmp_path / "Memory" / "model.pth.tar-4"
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(SettingsError, match=f"is not a checkpoint of a run .{reason}"):
        load(build(toy), tmp_path)


def test_parts_of_different_epochs(toy, tmp_path):
    save_own(build(toy), tmp_path)
    path = tmp_path / "Memory" / "model.pth.tar-4"
    torch.save({**torch.load(path), "epoch": 3}, path)
    message = (
        r"are a mixture of two epochs, 3 \(Memory\) and 4 \(prompt_learner\): run the training's "
        "command again"
    )
    with pytest.raises(SettingsError, match=message):
        load(build(toy), tmp_path)


def specific(toy, names):
    """Return CoOp with a context for each class."""
    return RefinedCLIP(CoOpLearner(toy, ContextPrompts(toy, names, 4, class_specific=True)))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["face", "lotus", "cup"], "class 1 is 'yin yang' there and 'lotus' in this test"),
        (["yin_yang", "face", "water_lilly"], "class 0 is 'face' there and 'yin yang'"),
        ([*NAMES, "cup"], r"class 3 is none there and 'cup' in this test \(3 and 4 classes\)"),
        (NAMES[:2], "class 2 is 'water lilly' there and none"),
    ],
)
def test_class_specific_contexts_belong_to_their_classes(toy, tmp_path, names, message):
    save_own(specific(toy, NAMES), tmp_path)
    write_json(
        {"classes": [name.replace("_", " ") for name in NAMES]}, tmp_path / "checkpoint.json"
    )
    load(specific(toy, NAMES), tmp_path)
    with pytest.raises(SettingsError, match=f"{message}.*test it with the classes of the training"):
        load(specific(toy, names), tmp_path, classnames=names)


def test_class_specific_contexts_without_a_record_print_a_warning(toy, tmp_path, capsys):
    model = specific(toy, NAMES)
    save_own(model, tmp_path)
    loaded = load(specific(toy, ["a", "b", "c"]), tmp_path, classnames=["a", "b", "c"])
    assert "warning: prompt_learner.ctx belongs to the classes of its training" in (
        capsys.readouterr().out
    )
    assert torch.equal(loaded.learner.prompts.ctx, model.learner.prompts.ctx)


def test_shared_contexts_load_for_other_classes(toy, tmp_path, capsys):
    save_own(build(toy), tmp_path)
    write_json({"classes": NAMES}, tmp_path / "checkpoint.json")
    load(build(toy, ["cat"]), tmp_path, classnames=["cat"])
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ([], "it is not a table"),
        ({"classes": "face"}, "its classes have another form"),
        ({"clip": {"text_projection": {"shape": "1 x 1", "sample": "x"}}}, "its clip have"),
        ({"backbone": 5}, "its backbone have another form"),
        ({"teacher": {"fingerprint": 3}}, "its teacher have another form"),
    ],
)
def test_damaged_record(tmp_path, record, reason):
    write_json(record, tmp_path / "checkpoint.json")
    with pytest.raises(SettingsError, match=rf"checkpoint.json is damaged .{reason}"):
        read_record(str(tmp_path))
