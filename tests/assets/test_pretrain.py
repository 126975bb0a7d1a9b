"""Pre-train a small Critters CLIP: encoders, losses, training loop and files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import clip
from assets.critters import encoders, pretrain
from assets.critters.losses import contrastive_loss
from assets.critters.pool import make_pool, open_pool
from assets.critters.zeroshot import normalize
from dassl.utils import UsageError
from tests.toy import toy_clip

SMALL = ["--images", "40", "--steps", "4", "--batch", "16", "--dim", "32", "--vision-width", "64"]
SMALL += ["--vision-layers", "1", "--text-layers", "1", "--threads", "1", "--save-every", "2"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    make_pool(folder, 40, seed=1, workers=1)
    return folder


def small_trainer(pool: Path) -> pretrain.Trainer:
    torch.set_num_threads(1)
    return pretrain.Trainer(pretrain.parse(SMALL)[1], open_pool(pool))


def test_encoders_equal_clip():
    model = toy_clip(vision_width=64, text_width=64)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = clip.tokenize(["a photo of a dax.", "two wugs", "a long text about a striped fep"])
    with torch.no_grad():
        pooled, patches = encoders.encode_image(model, images)
        torch.testing.assert_close(pooled, model.encode_image(images), atol=1e-5, rtol=1e-4)
        assert patches.shape == (3, 16, 64)
        text = encoders.encode_text(model, tokens[:, :16].long())
        torch.testing.assert_close(text, model.encode_text(tokens), atol=1e-5, rtol=1e-4)


def test_initialization_depends_only_on_the_seed():
    first, second, other = (toy_clip(seed=i) for i in (1, 2, 3))
    for model, seed in ((first, 5), (second, 5), (other, 6)):
        torch.manual_seed(seed)
        encoders.initialize(model)
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["visual.proj"], states[2]["visual.proj"])
    assert all(value.isfinite().all() for value in states[0].values())


def test_contrastive_loss_excludes_false_negatives():
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.randn(5, 8, generator=generator) for _ in range(2))
    labels = torch.randint(0, 2, (5, 3), generator=generator)
    mentions = torch.rand(5, 3, generator=generator) < 0.6
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    expected = 0.0
    left_out = 0
    for way in (0, 1):
        for i in range(5):
            logits = []
            for j in range(5):
                row, words = (i, j) if way == 0 else (j, i)
                facts = mentions[words]
                true = bool((labels[row] == labels[words])[facts].all())
                left_out += true and i != j
                if i == j or not true:
                    logits.append(float(7 * cosines[row, words]))
            expected += (np.log(np.exp(logits).sum()) - float(7 * cosines[i, i])) / 10
    assert left_out  # the example contains such pairs
    loss = contrastive_loss(image, text, torch.tensor(7.0), labels, mentions)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_pool_is_independent_of_the_number_of_workers(pool, tmp_path):
    make_pool(tmp_path, 40, seed=1, workers=2)
    one, two = open_pool(pool), open_pool(tmp_path)
    for name in ("images", "labels", "parts", "tokens", "mentions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert [*one.training, *one.held_out] == list(range(40))


def test_pool_with_other_settings_raises(pool):
    with pytest.raises(UsageError, match="--pool"):
        make_pool(pool, 41, seed=1, workers=1)


def test_patch_parts_match_the_labels(pool):
    loaded = open_pool(pool)
    for labels, parts in zip(loaded.labels, loaded.parts, strict=True):
        assert set(np.unique(parts[0])) == {0, labels[1] + 1}
        assert set(np.unique(parts[1])) <= {0, labels[2]}
        assert set(np.unique(parts[2])) <= {0, labels[3]}


def test_epoch_visits_each_row_once():
    rows = [pretrain.batch_rows(step, 8, 26, seed=1) for step in range(6)]
    for epoch in (rows[:3], rows[3:]):
        assert len(np.unique(np.concatenate(epoch))) == 24
    assert not np.array_equal(rows[0], rows[3])


def test_resumed_run_ends_with_the_same_weights(pool, tmp_path):
    whole = small_trainer(pool)
    whole.train(tmp_path / "whole.pt", save_every=100)
    half = small_trainer(pool)
    for _ in range(2):
        half.run_step()
    half.save(tmp_path / "half.pt")
    rest = small_trainer(pool)
    rest.resume(tmp_path / "half.pt")
    rest.train(tmp_path / "half.pt", save_every=100)
    ours, theirs = whole.modules.state_dict(), rest.modules.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_checkpoint_with_other_settings_raises(pool, tmp_path):
    trainer = small_trainer(pool)
    trainer.save(tmp_path / "run.pt")
    trainer.settings = {**trainer.settings, "lr": 0.5}
    with pytest.raises(UsageError, match="delete it"):
        trainer.resume(tmp_path / "run.pt")


def test_extended_run_records_its_stages(pool, tmp_path):
    arguments = [*SMALL, "--pool", str(pool), "--assets", str(tmp_path), "--name", "staged"]
    pretrain.main(arguments)
    pretrain.main([*arguments, "--steps", "6"])
    recipe = json.loads((tmp_path / "staged.json").read_text())
    assert recipe["stages"] == [4, 6]
    first, second = recipe["command"].split(" && ")
    assert "--steps 4 " in first
    assert second == first.replace("--steps 4 ", "--steps 6 ")


def test_unfinished_run_cannot_be_extended(pool, tmp_path):
    trainer = small_trainer(pool)
    trainer.run_step()
    trainer.save(tmp_path / "half.pt")
    longer = pretrain.Trainer({**trainer.settings, "steps": 6}, open_pool(pool))
    with pytest.raises(UsageError, match="at step 1"):
        longer.resume(tmp_path / "half.pt")


def test_losses_decrease(pool):
    trainer = small_trainer(pool)
    losses = [trainer.run_step() for _ in range(16)]
    for name in ("pair", "part"):
        assert np.mean([loss[name] for loss in losses[-4:]]) < losses[0][name], name


def test_non_finite_loss_raises(pool):
    trainer = small_trainer(pool)
    with torch.no_grad():
        trainer.model.visual.proj.fill_(float("nan"))
    with pytest.raises(UsageError, match="smaller --lr"):
        trainer.run_step()


@pytest.mark.parametrize("width", ["32", "96"])
def test_width_not_divisible_by_64_raises(pool, width):
    settings = pretrain.parse([*SMALL, "--vision-width", width])[1]
    with pytest.raises(UsageError, match="multiple of 64"):
        pretrain.Trainer(settings, open_pool(pool))


def test_main_writes_a_model_that_clip_loads(pool, tmp_path, capsys):
    pretrain.main([*SMALL, "--pool", str(pool), "--assets", str(tmp_path), "--name", "tiny"])
    recipe = json.loads((tmp_path / "tiny.json").read_text())
    assert recipe["recipe"] == pretrain.parse(SMALL)[1]
    assert recipe["samples"] == 64
    scores = recipe["zero_shot_percent"]  # the few held-out images do not cover every style
    assert {"all"} < set(scores) < {"all", "photo", "sketch", "painting", "dark", "blurry"}
    assert all(0 <= score <= 100 for score in scores.values())
    with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        assert file.metadata() == {"vocab_size": "49408"}
        assert file.get_tensor("token_embedding.weight").dtype == torch.float16
    model, _ = clip.load(str(tmp_path / "tiny.safetensors"), device="cpu")

    # The loaded model equals the trained one rounded to fp16.
    trainer = small_trainer(pool)
    trainer.resume(pool / "tiny.pt")
    trainer.report()
    tokens = clip.tokenize(["a photo of a horned wug.", "a dark photo of a belted zorp"])
    images = normalize(trainer.pool.images[:3])
    with torch.no_grad():
        rows = trainer.vocabulary.rows(tokens.long())
        text = encoders.encode_text(trainer.model, rows)
        torch.testing.assert_close(model.encode_text(tokens), text, atol=1e-5, rtol=1e-4)
        pooled, _ = encoders.encode_image(trainer.model, images)
        torch.testing.assert_close(model.encode_image(images), pooled, atol=1e-5, rtol=1e-4)


def test_failed_export_leaves_no_json(pool, tmp_path):
    trainer = small_trainer(pool)
    with pytest.raises(TypeError):
        trainer.export(tmp_path, "broken", {"not json": object()})
    assert not (tmp_path / "broken.json").exists()


def test_hue_is_rotated_about_gray():
    """A third of a turn moves red to green to blue; gray and an angle of 0 change nothing."""
    colors = np.array([[[200, 50, 50], [90, 90, 90]]], np.uint8).reshape(1, 1, 2, 3)
    images = np.repeat(colors, 3, 0)
    turned = pretrain.rotate_hue(images, np.array([0, 2, 4]) * np.pi / 3)
    assert turned[:, 0, 0].tolist() == [[200, 50, 50], [50, 200, 50], [50, 50, 200]]
    assert turned[:, 0, 1].tolist() == [[90, 90, 90]] * 3
    assert turned.dtype == np.uint8


def test_jittered_images_get_captions_without_a_color():
    mentions = np.zeros((4, 3, len(pretrain.FACTS)), bool)
    mentions[0, 0, pretrain.COLOR] = mentions[1, 1:, pretrain.COLOR] = True
    mentions[2, :, pretrain.COLOR] = mentions[3, 0, pretrain.COLOR] = True
    pick, jitter = pretrain.pick_without_color(
        mentions, np.array([0, 1, 0, 0]), np.array([True, True, True, False])
    )
    assert pick.tolist() == [1, 0, 0, 0]  # the next one without; all mention it; not jittered
    assert jitter.tolist() == [True, True, False, False]


def test_color_jitter_changes_training(pool):
    plain = small_trainer(pool)
    jittered = pretrain.Trainer({**plain.settings, "color_jitter": 1.0}, open_pool(pool))
    assert plain.run_step() != jittered.run_step()


def test_grown_model_starts_as_the_smaller_one(pool, tmp_path):
    small = small_trainer(pool)
    small.export(tmp_path, "small", {})
    settings = {**small.settings, "vision_layers": 3, "text_layers": 2, "seed": 9}
    grown = pretrain.Trainer({**settings, "start": "small"}, open_pool(pool), tmp_path)
    images = normalize(open_pool(pool).images[:4])
    tokens = small.tokens[:4, 0]
    with torch.no_grad():
        for module, value in ((encoders.encode_image, images), (encoders.encode_text, tokens)):
            ours, theirs = (module(trainer.model, value) for trainer in (grown, small))
            ours, theirs = (x[0] if isinstance(x, tuple) else x for x in (ours, theirs))
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-2)  # exported in fp16
    grown.run_step()
    assert grown.model.visual.transformer.resblocks[2].mlp.c_proj.weight.any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"start": "gone"}, "there is no model"), ({"dim": 48, "start": "small"}, "cannot be grown")],
)
def test_model_to_grow_from_must_fit(changes, words, pool, tmp_path):
    small = small_trainer(pool)
    small.export(tmp_path, "small", {})
    with pytest.raises(UsageError, match=words):
        pretrain.Trainer({**small.settings, **changes}, open_pool(pool), tmp_path)
