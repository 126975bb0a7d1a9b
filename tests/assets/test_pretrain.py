"""Pre-training of the Critters' tiny CLIP: its sums, its loop and its files, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

import clip
from assets.critters import pretrain, towers
from assets.critters.export import export
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


def test_the_fast_towers_compute_clip():
    model = toy_clip(vision_width=64, text_width=64)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = clip.tokenize(["a photo of a dax.", "two wugs", "a long text about a striped fep"])
    with torch.no_grad():
        pooled, patches = towers.encode_image(model, images)
        torch.testing.assert_close(pooled, model.encode_image(images), atol=1e-5, rtol=1e-4)
        assert patches.shape == (3, 16, 64)
        text = towers.encode_text(model, tokens[:, :16].long())
        torch.testing.assert_close(text, model.encode_text(tokens), atol=1e-5, rtol=1e-4)


def test_first_values_depend_on_the_seed_alone():
    first, second, other = (toy_clip(seed=i) for i in (1, 2, 3))
    for model, seed in ((first, 5), (second, 5), (other, 6)):
        torch.manual_seed(seed)
        towers.initialize(model)
    states = [model.state_dict() for model in (first, second, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["visual.proj"], states[2]["visual.proj"])
    assert all(value.isfinite().all() for value in states[0].values())


def test_the_contrastive_loss_leaves_true_pairs_out():
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
                picture, words = (i, j) if way == 0 else (j, i)
                facts = mentions[words]
                true = bool((labels[picture] == labels[words])[facts].all())
                left_out += true and i != j
                if i == j or not true:
                    logits.append(float(7 * cosines[picture, words]))
            expected += (np.log(np.exp(logits).sum()) - float(7 * cosines[i, i])) / 10
    assert left_out  # the table has such pairs
    loss = contrastive_loss(image, text, torch.tensor(7.0), labels, mentions)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_number_of_processes_changes_no_pool(pool, tmp_path):
    make_pool(tmp_path, 40, seed=1, workers=2)
    one, two = open_pool(pool), open_pool(tmp_path)
    for name in ("images", "labels", "parts", "tokens", "mentions"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert [*one.training, *one.held_out] == list(range(40))


def test_a_pool_of_other_settings_is_refused(pool):
    with pytest.raises(UsageError, match="--pool"):
        make_pool(pool, 41, seed=1, workers=1)


def test_patches_show_the_parts_of_their_picture(pool):
    loaded = open_pool(pool)
    for labels, parts in zip(loaded.labels, loaded.parts, strict=True):
        assert set(np.unique(parts[0])) == {0, labels[1] + 1}
        assert set(np.unique(parts[1])) <= {0, labels[2]}
        assert set(np.unique(parts[2])) <= {0, labels[3]}


def test_an_epoch_goes_once_through_the_pool():
    rows = [pretrain.batch_rows(step, 8, 26, seed=1) for step in range(6)]
    for epoch in (rows[:3], rows[3:]):
        assert len(np.unique(np.concatenate(epoch))) == 24
    assert not np.array_equal(rows[0], rows[3])


def test_an_interrupted_run_goes_on_to_the_same_weights(pool, tmp_path):
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


def test_a_checkpoint_of_another_recipe_is_refused(pool, tmp_path):
    trainer = small_trainer(pool)
    trainer.save(tmp_path / "run.pt")
    trainer.settings = {**trainer.settings, "lr": 0.5}
    with pytest.raises(UsageError, match="delete it"):
        trainer.resume(tmp_path / "run.pt")


def test_a_finished_run_goes_on_with_more_steps_and_its_recipe_says_so(pool, tmp_path):
    arguments = [*SMALL, "--pool", str(pool), "--assets", str(tmp_path), "--name", "staged"]
    pretrain.main(arguments)
    pretrain.main([*arguments, "--steps", "6"])
    recipe = json.loads((tmp_path / "staged.json").read_text())
    assert recipe["stages"] == [4, 6]
    first, second = recipe["command"].split(" && ")
    assert "--steps 4 " in first
    assert second == first.replace("--steps 4 ", "--steps 6 ")


def test_an_unfinished_run_is_not_taken_for_a_stage(pool, tmp_path):
    trainer = small_trainer(pool)
    trainer.run_step()
    trainer.save(tmp_path / "half.pt")
    longer = pretrain.Trainer({**trainer.settings, "steps": 6}, open_pool(pool))
    with pytest.raises(UsageError, match="at step 1"):
        longer.resume(tmp_path / "half.pt")


def test_the_losses_fall(pool):
    trainer = small_trainer(pool)
    losses = [trainer.run_step() for _ in range(16)]
    for name in ("pair", "part"):
        assert np.mean([loss[name] for loss in losses[-4:]]) < losses[0][name], name


def test_a_loss_that_is_not_finite_stops_the_run(pool):
    trainer = small_trainer(pool)
    with torch.no_grad():
        trainer.model.visual.proj.fill_(float("nan"))
    with pytest.raises(UsageError, match="smaller --lr"):
        trainer.run_step()


@pytest.mark.parametrize("width", ["32", "96"])
def test_a_width_that_heads_cannot_share_is_refused(pool, width):
    settings = pretrain.parse([*SMALL, "--vision-width", width])[1]
    with pytest.raises(UsageError, match="multiple of 64"):
        pretrain.Trainer(settings, open_pool(pool))


def test_the_script_writes_an_asset_that_clip_loads(pool, tmp_path, capsys):
    pretrain.main([*SMALL, "--pool", str(pool), "--assets", str(tmp_path), "--name", "tiny"])
    recipe = json.loads((tmp_path / "tiny.json").read_text())
    assert recipe["recipe"] == pretrain.parse(SMALL)[1]
    assert recipe["samples"] == 64
    scores = recipe["zero_shot_percent"]  # the few held-out pictures do not show every style
    assert {"all"} < set(scores) < {"all", "photo", "sketch", "painting", "dark", "blurry"}
    assert all(0 <= score <= 100 for score in scores.values())
    with safe_open(tmp_path / "tiny.safetensors", "pt") as file:
        assert file.metadata() == {"vocab_size": "49408"}
        assert file.get_tensor("token_embedding.weight").dtype == torch.float16
    model, _ = clip.load(str(tmp_path / "tiny.safetensors"), device="cpu")

    # The loaded model computes what the trained one did, rounded to fp16.
    trainer = small_trainer(pool)
    trainer.resume(pool / "tiny.pt")
    trainer.report()
    tokens = clip.tokenize(["a photo of a horned wug.", "a dark photo of a belted zorp"])
    images = normalize(trainer.pool.images[:3])
    with torch.no_grad():
        rows = trainer.vocabulary.rows(tokens.long())
        text = towers.encode_text(trainer.model, rows)
        torch.testing.assert_close(model.encode_text(tokens), text, atol=1e-5, rtol=1e-4)
        pooled, _ = towers.encode_image(trainer.model, images)
        torch.testing.assert_close(model.encode_image(images), pooled, atol=1e-5, rtol=1e-4)


def test_a_failed_export_leaves_no_file(pool, tmp_path):
    trainer = small_trainer(pool)
    with pytest.raises(TypeError):
        export(trainer.model, trainer.vocabulary, {"not json": object()}, tmp_path, "broken")
    assert not (tmp_path / "broken.json").exists()
