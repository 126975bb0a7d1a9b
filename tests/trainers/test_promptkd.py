"""Compare PromptKD, with and without TextRefiner, with loops; its teacher and its files."""

import pytest
import torch

from tests.toy import toy_clip
from tests.trainers import naive
from tests.trainers.toy_runs import TEACHER_SIZES, ToyWorld, learned, save_teacher
from trainers.checkpoints.load import load_trained
from trainers.checkpoints.teacher import load_teacher
from trainers.prompting.deep import vision_prompts
from trainers.promptkd import PromptKDLearner
from trainers.settings import RefinerSettings, SettingsError
from trainers.trainer import RefinedCLIP, build_refiner

EXACT = {"rtol": 0, "atol": 1e-9}
NAMES = ["cat", "wind_turbine", "very large dog"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ToyWorld(tmp_path_factory.mktemp("world"))


def build(world, refined=True, temperature=2.0):
    frozen = toy_clip(**TEACHER_SIZES).double().requires_grad_(False)
    teacher = load_teacher(frozen, NAMES, world.teacher, "a photo of a").double()
    student = toy_clip().double().requires_grad_(False)
    prompts = vision_prompts(student, 2, 3)
    with torch.no_grad():
        text = teacher.encode_text()
    learner = PromptKDLearner(student, prompts, text, teacher, 20.0, temperature).double()
    settings = RefinerSettings(cache_size=6, local_weight=0.01, reg_weight=0.02)
    refiner = build_refiner(student, learner.text_dim, settings).double() if refined else None
    return RefinedCLIP(learner, refiner, settings if refined else None)


def naive_teacher(teacher, image):
    """Return logits (B, C) and text features (C, d) of the teacher."""
    clip_model, deep = teacher.clip_model, teacher.deep
    ctx, text = deep.prompt_learner.ctx, deep.text_encoder()
    # 3 learned tokens replace "a photo of"; the last word of the initial context is kept.
    t = torch.stack([naive.class_feature(clip_model, n, "a photo of a", ctx, text) for n in NAMES])
    g = [naive.image_tokens(clip_model.visual, x, deep.image_encoder())[0][0] for x in image]
    tau = clip_model.logit_scale.exp()
    return torch.stack([torch.stack([tau * (x / x.norm()) @ c for c in t]) for x in g]), t


def aligned(module, rows):
    """Compute h on (N, d_v) in training mode from its weights."""
    hidden = torch.stack([module.inner.weight @ row + module.inner.bias for row in rows])
    mean, variance = hidden.mean(0), hidden.var(0, unbiased=False)
    hidden = (hidden - mean) / (variance + 1e-5).sqrt() * module.norm.weight + module.norm.bias
    return torch.stack(
        [module.outer.weight @ row.clamp(min=0) + module.outer.bias for row in hidden]
    )


@pytest.mark.parametrize("refined", [False, True])
def test_losses_equal_loops(world, refined):
    model, t = build(world, refined), 2.0
    learner, image = model.learner, torch.randn(3, 3, 32, 32, dtype=torch.float64)
    visual, tau = learner.clip_model.visual, learner.clip_model.logit_scale.exp()
    tokens = [naive.image_tokens(visual, x, learner.prompts()) for x in image]
    target, text = naive_teacher(learner.teacher, image)
    local = [v for v, _ in tokens]
    g = aligned(learner.projector, [v[0] for v in local])
    g = [row / row.norm() for row in g]
    classifier = text
    if refined:
        entries = model.refiner.cache.entries
        rows = []
        for c in text:
            mix = (entries @ c).exp()
            read = (mix[:, None] * entries).sum(0) / mix.sum()
            rows.append(c + 0.2 * model.refiner.aggregate.weight @ torch.cat([c, read]))
        classifier = torch.stack(rows)
        h = aligned(model.refiner.align, torch.cat(local)).split(len(local[0]))
        best = [sorted(range(16), key=lambda p, a=a: -a[p].item())[:5] for _, a in tokens]
        salient = [
            [x[0], *(x[1 + p] for p in picked), x.mean(0)]
            for x, picked in zip(h, best, strict=True)
        ]

    logits, losses = model.training_step({"img": image})
    ours = torch.stack([torch.stack([tau * x @ c for c in classifier]) for x in g])
    torch.testing.assert_close(logits, ours, **EXACT)
    kd = sum(naive.kl(a, b, t) for a, b in zip(target, ours, strict=True)) / (3 * 3)
    expected = {"kd": 20 * kd}
    if refined:
        semantic = sum(
            naive.kl(row, torch.stack([tau * s @ c for c in text]), t)
            for row, rows in zip(target, salient, strict=True)
            for s in rows
        )
        expected["semantic"] = 20 / 100 * semantic / (7 * 3 * 3)
        unit = torch.stack([row / row.norm() for row in classifier])
        expected["regularizer"] = 20 / 50 * (unit - text).abs().sum() / text.numel()
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, **EXACT)


def test_teacher_encodes_the_classes_once_and_is_not_used_at_test_time(
    world, tmp_path, monkeypatch
):
    trainer = world.trained("TextRefinerPromptKD", tmp_path, "OPTIM.MAX_EPOCH", 1)
    teacher = trainer.model.learner.teacher
    assert not any(p.requires_grad for p in teacher.parameters())

    def refuse(*arguments, **options):
        raise AssertionError("the teacher's encoder ran")

    monkeypatch.setattr(teacher, "encode_text", refuse)
    image = torch.randn(2, 3, 32, 32)
    trainer.model.training_step({"img": image})
    monkeypatch.setattr(teacher.clip_model.visual.conv1, "forward", refuse)
    trainer.test()
    trainer.model_inference(image)


def test_prompts_of_the_teacher_are_loaded_from_its_file(world):
    teacher = load_teacher(toy_clip(**TEACHER_SIZES), NAMES, world.teacher, "a photo of a")
    state = torch.load(world.teacher, weights_only=True)["state_dict"]
    assert teacher.deep.state_dict().keys() == state.keys()
    for key, value in teacher.deep.state_dict().items():
        assert torch.equal(value, state[key])


def test_teacher_trained_by_promptsrc(world, tmp_path):
    options = ["MODEL.BACKBONE.NAME", world.teacher_clip]
    teacher = world.trained("PromptSRC", tmp_path / "teacher", *options)
    file = tmp_path / "teacher" / "VLPromptLearner" / "model.pth.tar-3"
    weights = ["TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(file)]
    student = world.build("PromptKD", tmp_path / "student", *weights)
    with torch.no_grad():
        text = teacher.model.learner.encode_text()
    torch.testing.assert_close(student.model.learner.teacher_text, text)


def public_folder(folder, trainer):
    """Return a folder in the release's layout: student, projector, refiner and cache."""
    own = trainer.model
    state = {
        f"image_encoder.{key}": value
        for key, value in own.learner.clip_model.visual.state_dict().items()
    }
    state |= {f"image_encoder.{k}": v for k, v in own.learner.prompts.state_dict().items()}
    state["logit_scale"] = own.learner.clip_model.logit_scale
    layers = {"inner": "conv1.0", "norm": "conv1.1", "outer": "conv1.3"}
    for prefix, module in (
        ("VPT_image_trans", own.learner.projector),
        ("mid_image_trans", own.refiner.align),
    ):
        for key, value in module.state_dict().items():
            layer, parameter = key.split(".")
            convolution = value[..., None, None] if value.dim() == 2 else value
            state[f"{prefix}.{layers[layer]}.{parameter}"] = convolution
    memory = {"extractor.weight": own.refiner.aggregate.weight}
    for name, tensors, more in (
        ("VLPromptLearner", state, {}),
        ("Memory", memory, {"memory_item": own.refiner.cache.entries}),
    ):
        (folder / name).mkdir(parents=True)
        tensors = {key: value.detach() for key, value in tensors.items()}
        file = folder / name / "model.pth.tar-6"
        torch.save({"state_dict": tensors, "epoch": 6, **more}, file)


def test_release_folder_loads(world, tmp_path):
    trained = world.trained("TextRefinerPromptKD", tmp_path / "ours")
    public_folder(tmp_path / "release", trained)
    other = world.build("TextRefinerPromptKD", tmp_path / "other")
    load_trained(
        other.model.trainable_modules(),
        str(tmp_path / "release"),
        6,
        other.model.learner.clip_model,
    )
    theirs = learned(other)
    for key, value in learned(trained).items():
        assert torch.equal(value, theirs[key]), key


@pytest.mark.parametrize(
    ("modal", "script", "place"),
    [
        (
            "base2novel",
            "teacher.sh DATASET SEED",
            "teacher_model/Caltech101/VLPromptLearner/model-best.pth.tar",
        ),
        (
            "cross",
            "teacher_xd.sh SOURCE SEED",
            "teacher_model/ImageNet-xd/VLPromptLearner_large/model.pth.tar-20",
        ),
    ],
)
def test_teacher_paths(world, modal, script, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["TRAINER.PROMPTKD.TEACHER_WEIGHTS", "", "TRAINER.MODAL", modal]
    message = f"no teacher at {place}: train one with .*{script} .*published file at {place}$"
    with pytest.raises(SettingsError, match=message):
        world.build("PromptKD", tmp_path / "run", *options)
    (tmp_path / place).parent.mkdir(parents=True)
    save_teacher(tmp_path / place)
    assert world.build("PromptKD", tmp_path / "run", *options).model.learner.text_dim == 48


def test_teacher_of_another_clip_raises(world, tmp_path):
    with pytest.raises(
        SettingsError, match="prompts of width 128, but the text encoder of its CLIP has width"
    ):
        world.build("PromptKD", tmp_path, "TRAINER.PROMPTKD.TEACHER_NAME", world.clip)
    state = torch.load(world.teacher, weights_only=True)
    state["state_dict"]["image_encoder.conv1.weight"] = torch.ones(128, 3, 8, 8)
    torch.save(state, tmp_path / "other.pth.tar")
    weights = ["TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(tmp_path / "other.pth.tar")]
    with pytest.raises(SettingsError, match=r"set TRAINER.PROMPTKD.TEACHER_NAME to the backbone"):
        world.build("PromptKD", tmp_path, *weights)


def test_file_that_is_not_a_teacher_raises(world, tmp_path):
    torch.save({"state_dict": {"ctx": torch.zeros(4, 128)}, "epoch": 1}, tmp_path / "coop.pth.tar")
    weights = ["TRAINER.PROMPTKD.TEACHER_WEIGHTS", str(tmp_path / "coop.pth.tar")]
    with pytest.raises(
        SettingsError, match="must be a checkpoint of PromptSRC, but this one contains ctx"
    ):
        world.build("PromptKD", tmp_path, *weights)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TRAINER.PROMPTKD.CE_WEIGHT", 1.0, "CE_WEIGHT must be 0, got 1.0"),
        ("TRAINER.PROMPTKD.PROJECT_LAYER", 1, "PROJECT_LAYER must be 2, got 1"),
        ("TRAINER.PROMPTKD.TEMPERATURE", 0.0, "TEMPERATURE must be a finite number > 0 .* got 0.0"),
        ("TRAINER.PROMPTKD.KD_WEIGHT", -1.0, "KD_WEIGHT must be a finite number > 0 .* got -1.0"),
        ("DATALOADER.TRAIN_X.BATCH_SIZE", 1, "BATCH_SIZE must be at least 2, got 1"),
        (
            "TRAINER.MODAL",
            "base2new",
            "must be one of base2novel, cross.*did you mean 'base2novel'",
        ),
        ("TRAINER.PROMPTKD.PROMPT_DEPTH_VISION", 4, "must be between 0 and 3"),
    ],
)
def test_invalid_settings_raise(world, key, value, message, tmp_path):
    with pytest.raises(SettingsError, match=message):
        world.build("PromptKD", tmp_path, key, value)


def test_refiner_loss_weights_are_read_from_promptkd(world, tmp_path):
    settings = world.build("TextRefinerPromptKD", tmp_path).model.settings
    assert (settings.local_weight, settings.reg_weight) == (0.01, 0.02)
    given = world.build("TextRefinerPromptKD", tmp_path, "TRAINER.PROMPTKD.REG_WEIGHT", 0)
    assert (given.model.settings.local_weight, given.model.settings.reg_weight) == (0.01, 0)
