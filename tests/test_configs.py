"""Every trainer config merges with its bases and builds its model."""

from pathlib import Path

import pytest
import torch

import trainers
from dassl.config import get_cfg_default, merge_file, merge_opts
from dassl.engine import build_trainer
from dassl.utils import set_random_seed
from tests.toy import save_toy_clip, toy_resnet_state_dict
from tests.trainers.toy_runs import ToyWorld

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "trainers"
CONFIGS = sorted(FOLDER.glob("*/*.yaml"))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Return toy weights for each kind of backbone, and their image size."""
    world = ToyWorld(tmp_path_factory.mktemp("world"))
    resnet = world.folder / "resnet.pt"
    torch.save(toy_resnet_state_dict(), resnet)
    # 12 blocks: as deep as the prompts and tokens of these configs reach.
    vit = save_toy_clip(world.folder / "vit.pt", vision_layers=12, text_layers=12)
    return world, {"ViT": (str(vit), 32), "RN": (str(resnet), 64)}


def merged(path):
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    merge_file(cfg, path)
    return cfg


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_config_builds(path, backbones, tmp_path):
    world, weights = backbones
    cfg = merged(path)
    kind = cfg.MODEL.BACKBONE.NAME
    overrides = ["TRAINER.NAME", path.parent.name, "OUTPUT_DIR", str(tmp_path), "USE_CUDA", False]
    overrides += ["DATASET.NAME", "Caltech101", "DATASET.ROOT", str(world.folder / "data")]
    overrides += ["DATALOADER.NUM_WORKERS", 0]
    overrides += ["TRAINER.PROMPTKD.TEACHER_NAME", world.teacher_clip]
    overrides += ["TRAINER.PROMPTKD.TEACHER_WEIGHTS", world.teacher]
    if not (
        ROOT / "assets" / f"{kind}.safetensors"
    ).is_file():  # bundled models are built at full size
        file, side = weights["RN" if kind.startswith("RN") else "ViT"]
        overrides += ["MODEL.BACKBONE.NAME", file, "INPUT.SIZE", (side, side)]
    merge_opts(cfg, overrides)
    set_random_seed(1)
    trainer = build_trainer(cfg)
    assert type(trainer).__name__ == path.parent.name
    assert trainer.optim.param_groups[0]["lr"] == pytest.approx(cfg.OPTIM.WARMUP_CONS_LR) or (
        cfg.OPTIM.WARMUP_EPOCH < 1
    )


# file -> settings of the public config of that name (facts), beyond those common to all
PUBLIC = {
    "CoOp/rn50": ("RN50", 200, 0.002, ""),
    "CoOp/rn50_ep50": ("RN50", 50, 0.002, ""),
    "CoOp/rn50_ep100": ("RN50", 100, 0.002, ""),
    "CoOp/rn50_ctxv1": ("RN50", 200, 0.002, "a photo of a"),
    "CoOp/rn50_ep50_ctxv1": ("RN50", 50, 0.002, "a photo of a"),
    "CoOp/rn101": ("RN101", 200, 0.002, ""),
    "CoOp/rn101_ep50": ("RN101", 50, 0.002, ""),
    "CoOp/vit_b32": ("ViT-B/32", 200, 0.002, ""),
    "CoOp/vit_b32_ep50": ("ViT-B/32", 50, 0.002, ""),
    "CoOp/vit_b16": ("ViT-B/16", 200, 0.002, ""),
    "CoOp/vit_b16_ep50": ("ViT-B/16", 50, 0.002, ""),
    "CoOp/vit_b16_ep100": ("ViT-B/16", 100, 0.002, ""),
    "CoOp/vit_b16_ctxv1": ("ViT-B/16", 200, 0.002, "a photo of a"),
    "CoOp/vit_b16_ep50_ctxv1": ("ViT-B/16", 50, 0.002, "a photo of a"),
    "CoOp/vit_b16_ep100_ctxv1": ("ViT-B/16", 100, 0.002, "a photo of a"),
    "TextRefiner/vit_b16_ep10_ctxv1": ("ViT-B/16", 10, 0.002, "a photo of a"),
    "TextRefiner/vit_b16_ep10_lr1e-3_ctxv1": ("ViT-B/16", 10, 0.001, "a photo of a"),
    "TextRefiner/vit_b16_ep10_lr8e-4_ctxv1": ("ViT-B/16", 10, 0.0008, "a photo of a"),
    "TextRefinerCoOp/vit_b16_ep10_ctxv1": ("ViT-B/16", 10, 0.002, "a photo of a"),
}


# the same for CoCoOp: the number of random context tokens and the words that replace them
PUBLIC_COCOOP = {
    "CoCoOp/vit_b16_c4_ep10_batch1": (4, ""),
    "CoCoOp/vit_b16_c8_ep10_batch1": (8, ""),
    "CoCoOp/vit_b16_c16_ep10_batch1": (16, ""),
    "CoCoOp/vit_b16_c4_ep10_batch1_ctxv1": (4, "a photo of a"),
    "TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1": (4, "a photo of a"),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_config_matches_the_public_one(name):
    cfg = merged(FOLDER / f"{name}.yaml")
    found = (
        cfg.MODEL.BACKBONE.NAME,
        cfg.OPTIM.MAX_EPOCH,
        cfg.OPTIM.LR,
        cfg.TRAINER.COOP.CTX_INIT,
    )
    assert found == PUBLIC[name]
    assert cfg.DATALOADER.TRAIN_X.BATCH_SIZE == 32
    assert cfg.TRAIN.PRINT_FREQ == 5
    check_common_base(cfg)
    assert (cfg.TEST.FINAL_MODEL == "best_val") == name.startswith("TextRefiner/")


@pytest.mark.parametrize("name", PUBLIC_COCOOP)
def test_config_matches_cocoops_public_one(name):
    cfg = merged(FOLDER / f"{name}.yaml")
    cocoop = cfg.TRAINER.COCOOP
    found = (cocoop.N_CTX, cocoop.CTX_INIT)
    assert found == PUBLIC_COCOOP[name]
    assert (cocoop.PREC, cfg.TRAINER.TEXT_CHUNK) == ("fp16", 0)
    assert (cfg.MODEL.BACKBONE.NAME, cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.LR) == ("ViT-B/16", 10, 0.002)
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (1, 20)
    assert cfg.TEST.FINAL_MODEL == "last_step"
    check_common_base(cfg)


PUBLIC_MAPLE = {
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx": (0.0035, 5, 9),
    "MaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets": (0.0026, 2, 3),
    "TextRefinerMaPLe/vit_b16_c2_ep5_batch4_2ctx": (0.0035, 5, 9),
    "TextRefinerMaPLe/vit_b16_c2_ep5_batch4_2ctx_cross_datasets": (0.0026, 2, 3),
}


@pytest.mark.parametrize("name", PUBLIC_MAPLE)
def test_config_matches_maples_public_one(name):
    cfg = merged(FOLDER / f"{name}.yaml")
    maple = cfg.TRAINER.MAPLE
    assert PUBLIC_MAPLE[name] == (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, maple.PROMPT_DEPTH)
    assert (maple.N_CTX, maple.CTX_INIT, maple.PREC) == (2, "a photo of a", "fp16")
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (4, 20)
    check_common_base(cfg)


@pytest.mark.parametrize("twin", ["", "TextRefiner"])
def test_config_matches_kgcoops_public_one(twin):
    cfg = merged(FOLDER / f"{twin}KgCoOp" / "vit_b16_ep100_ctxv1.yaml")
    kgcoop = cfg.TRAINER.KGCOOP
    assert (kgcoop.N_CTX, kgcoop.CTX_INIT, kgcoop.PREC) == (4, "a photo of a", "fp16")
    assert kgcoop.WEIGHT == 8.0
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH) == ("sgd", 0.002, 100)
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (128, 5)
    check_common_base(cfg)


@pytest.mark.parametrize("twin", ["", "TextRefiner"])
@pytest.mark.parametrize("epochs", [25, 50])
def test_config_matches_tcps_public_one(twin, epochs):
    cfg = merged(FOLDER / f"{twin}TCP" / f"vit_b16_ep{epochs}.yaml")
    tcp = cfg.TRAINER.TCP
    assert (tcp.N_CTX, tcp.CTX_INIT, tcp.PREC, tcp.WEIGHT, tcp.LAYER) == (4, "", "fp16", 8.0, 8)
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.ADAM_EPS) == ("adam", 0.002, 1e-3)
    assert (epochs, cfg.MODEL.BACKBONE.NAME) == (cfg.OPTIM.MAX_EPOCH, "ViT-B/16")
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (32, 5)
    check_common_base(cfg, test_batch=500)


@pytest.mark.parametrize("twin", ["", "TextRefiner"])
@pytest.mark.parametrize("epochs", [10, 100])
def test_config_matches_atprompts_public_one(twin, epochs):
    cfg = merged(FOLDER / f"{twin}ATPrompt" / f"vit_b16_ep{epochs}.yaml")
    own = cfg.TRAINER.ATPROMPT
    assert (own.N_CTX, own.N_ATT, own.PREC, own.WEIGHT) == (2, 2, "fp16", 0.0)
    assert own.ATTRIBUTES == ["color", "shape"]
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR) == ("sgd", 0.002)
    assert (epochs, cfg.MODEL.BACKBONE.NAME) == (cfg.OPTIM.MAX_EPOCH, "ViT-B/16")
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (32, 20)
    check_common_base(cfg)


# file -> batch, epochs, warm-up epochs, weight (facts of the public files)
MMRL = {
    "vit_b16": (4, 10, 1, 1.0),
    "vit_b16_imagenet": (32, 5, 1, 1.0),
    "vit_b16_cross_datasets": (32, 1, 0, 0.2),
    "vit_b16_few_shot": (32, 50, 1, 0.5),
}


@pytest.mark.parametrize("trainer", ["MMRL", "TextRefinerMMRL"])
@pytest.mark.parametrize("name", MMRL)
def test_config_matches_mmrls_public_one(trainer, name):
    cfg = merged(FOLDER / trainer / f"{name}.yaml")
    batch, epochs, warmup, weight = MMRL[name]
    own = cfg.TRAINER.MMRL
    assert (batch, epochs) == (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.OPTIM.MAX_EPOCH)
    assert (warmup, weight) == (cfg.OPTIM.WARMUP_EPOCH, own.REG_WEIGHT)
    assert (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.TRAIN.PRINT_FREQ) == ("adamw", 0.001, 20)
    assert (own.SCALE, own.N_REP_TOKENS, own.REP_DIM, own.PREC) == (0.7, 5, 512, "amp")
    assert own.REP_LAYERS == [6, 7, 8, 9, 10, 11, 12]
    assert cfg.INPUT.RRCROP_SCALE == (0.5, 1.0)
    check_common_base(cfg, test_batch=250)


@pytest.mark.parametrize("trainer", ["TaskRes", "TextRefinerTaskRes"])
@pytest.mark.parametrize("epochs", [100, 200])
def test_config_matches_taskress_public_one(trainer, epochs):
    cfg = merged(FOLDER / trainer / f"vit_b16_adam_ep{epochs}.yaml")
    assert ("adam", 0.002, epochs) == (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH)
    assert (cfg.DATALOADER.TRAIN_X.BATCH_SIZE, cfg.TRAIN.PRINT_FREQ) == (256, 5)
    assert (cfg.TRAINER.TaskRes.RESIDUAL_SCALE, cfg.MODEL.BACKBONE.NAME) == (0.5, "ViT-B/16")
    check_common_base(cfg, test_batch=500)


@pytest.mark.parametrize("trainer", ["CLIPAdapter", "TextRefinerCLIPAdapter"])
@pytest.mark.parametrize(("name", "epochs"), [("", 200), ("_ep100", 100), ("_ep50", 50)])
def test_config_of_clip_adapter_is_coops_in_float32(trainer, name, epochs):
    cfg, coops = (merged(FOLDER / folder / f"vit_b16{name}.yaml") for folder in (trainer, "CoOp"))
    own = cfg.TRAINER.CLIPADAPTER
    assert (own.REDUCTION, own.RATIO, own.PREC) == (4, 0.2, "fp32")
    for section in ("OPTIM", "INPUT", "DATALOADER", "MODEL"):
        assert cfg[section] == coops[section]
    assert ("sgd", 0.002, epochs) == (cfg.OPTIM.NAME, cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH)
    check_common_base(cfg)


def check_common_base(cfg, test_batch=100):
    """Check the settings that all public configs have in common."""
    assert test_batch == cfg.DATALOADER.TEST.BATCH_SIZE
    assert cfg.DATALOADER.NUM_WORKERS == 8
    assert cfg.INPUT.SIZE == (224, 224)
    assert cfg.INPUT.INTERPOLATION == "bicubic"
    assert cfg.INPUT.TRANSFORMS == ("random_resized_crop", "random_flip", "normalize")
    assert (cfg.OPTIM.LR_SCHEDULER, cfg.OPTIM.WARMUP_CONS_LR) == ("cosine", 1e-5)


PROMPTS = {"N_CTX_VISION": 4, "N_CTX_TEXT": 4, "CTX_INIT": "a photo of a", "PREC": "fp16"}
# file -> backbone, batch, rate, epochs, depth, and further settings (facts of the public files)
DEEP = {
    "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx": (
        *("ViT-B/16", 4, 0.0025, 20, 9),
        {"GPA_MEAN": 15, "GPA_STD": 1, "TEXT_LOSS_WEIGHT": 25, "IMAGE_LOSS_WEIGHT": 10},
    ),
    "PromptSRC/vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets": (
        *("ViT-B/16", 4, 0.0025, 20, 3),
        {"GPA_MEAN": 6, "GPA_STD": 10},
    ),
    "PromptSRC/vit_b16_c2_ep50_batch4_4+4ctx_few_shot": (
        *("ViT-B/16", 4, 0.0025, 50, 9),
        {"GPA_MEAN": 30, "GPA_STD": 30},
    ),
    "PromptSRC/vit_l14_c2_ep20_batch8_4+4ctx": (
        *("ViT-L/14", 8, 0.005, 20, 9),
        {"GPA_MEAN": 15, "GPA_STD": 1},
    ),
}
DEEP |= {  # TextRefiner on PromptSRC uses PromptSRC's settings
    f"TextRefiner{name}": values for name, values in DEEP.items() if "ViT-B/16" in values
}
DISTILLED = {
    "TEACHER_NAME": "ViT-L/14",
    "PROJECT_LAYER": 2,
    "CE_WEIGHT": 0.0,
    "KD_WEIGHT": 1000.0,  # 1.0 in the public file, but every script that uses it overrides it
    "TEMPERATURE": 1.0,
}
for trainer in ("PromptKD", "TextRefinerPromptKD"):
    for ending, depth in (("", 9), ("_cross_datasets", 3)):
        values = ("ViT-B/16", 8, 0.005, 20, depth, DISTILLED)
        DEEP[f"{trainer}/vit_b16_c2_ep20_batch8_4+4ctx{ending}"] = values


@pytest.mark.parametrize("name", DEEP)
def test_config_with_deep_prompts_matches_the_public_one(name):
    cfg = merged(FOLDER / f"{name}.yaml")
    backbone, batch, rate, epochs, depth, more = DEEP[name]
    assert backbone == cfg.MODEL.BACKBONE.NAME
    assert batch == cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    assert (rate, epochs) == (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH)
    section = cfg.TRAINER["PROMPTSRC" if "PromptSRC/" in name else "PROMPTKD"]
    expected = {"PROMPT_DEPTH_VISION": depth, "PROMPT_DEPTH_TEXT": depth, **PROMPTS, **more}
    assert {key: section[key] for key in expected} == expected
    assert cfg.TRAIN.PRINT_FREQ == 20
    check_common_base(cfg)


@pytest.mark.parametrize("trainer", ["PromptKD", "TextRefinerPromptKD"])
def test_distillation_configs_set_images_and_selection(trainer):
    for ending, modal in (("", "base2novel"), ("_cross_datasets", "cross")):
        cfg = merged(FOLDER / trainer / f"vit_b16_c2_ep20_batch8_4+4ctx{ending}.yaml")
        assert ("all", modal) == (cfg.DATASET.DISTILL_ON, cfg.TRAINER.MODAL)
        assert (cfg.TEST.FINAL_MODEL, cfg.TEST.SELECT_ON_TEST) == ("best_val", True)


def test_teacher_of_the_bundled_student_is_trained_by_its_protocol():
    teacher = merged(FOLDER / "PromptSRC" / "critters_teacher.yaml")
    for trainer in ("PromptKD", "TextRefinerPromptKD"):
        cfg = merged(FOLDER / trainer / "critters.yaml")
        assert cfg.TRAINER.PROMPTKD.TEACHER_NAME == teacher.MODEL.BACKBONE.NAME
        assert (cfg.DATASET.DISTILL_ON, cfg.TEST.FINAL_MODEL) == ("all", "last_step")
