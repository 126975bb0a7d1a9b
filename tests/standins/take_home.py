"""Train every trainer on the stand-ins, as in a CoOp checkout; see tests/trainers/test_standins.py.

python tests/standins/take_home.py OUTPUT
"""

import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]  # the stand-ins come before the repository

import torch  # noqa: E402
from yacs.config import CfgNode  # noqa: E402

import clip  # noqa: E402
import dassl  # noqa: E402
import trainers.coop  # noqa: E402  # CoOp's train.py imports this much
from dassl.config import get_cfg_default  # noqa: E402
from dassl.engine import TrainerX, build_trainer  # noqa: E402
from trainers.encode import encode_image, encode_text  # noqa: E402
from trainers.prompting.packing import Packing  # noqa: E402

NAMES = ["face", "yin_yang", "water_lilly"]
TRAINERS = ["CoOp", "TextRefinerCoOp", "CoCoOp", "TextRefinerCoCoOp", "MaPLe", "TextRefinerMaPLe"]
TRAINERS += ["TextRefiner", "PromptSRC", "TextRefinerPromptSRC", "PromptKD", "TextRefinerPromptKD"]
TRAINERS += ["KgCoOp", "TextRefinerKgCoOp"]
TRAINERS += ["TCP", "TextRefinerTCP"]
TRAINERS += ["ATPrompt", "TextRefinerATPrompt"]
TRAINERS += ["MMRL", "TextRefinerMMRL"]
TRAINERS += ["CLIPAdapter", "TextRefinerCLIPAdapter"]
TRAINERS += ["TaskRes", "TextRefinerTaskRes"]
TRAINERS += ["ZeroshotCLIP", "ZeroshotCLIP2"]


def batches(count):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(count, 4, 3, 32, 32, generator=generator)
    label = torch.tensor([0, 1, 2, 0])
    return [{"img": one, "label": label, "domain": torch.zeros(4)} for one in image]


def build_data_loader(self):
    """Set loaders of random images instead of Dassl's datasets."""
    self.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=NAMES))
    self.lab2cname = dict(enumerate(NAMES))
    self.train_loader_x, self.test_loader, self.val_loader = batches(3), batches(2), None


def coop_extend_cfg(cfg):
    """Add the settings that the train.py of a CoOp checkout adds."""
    cfg.TRAINER.COOP = CfgNode(
        {"N_CTX": 16, "CSC": False, "CTX_INIT": "", "PREC": "fp16", "CLASS_TOKEN_POSITION": "end"}
    )
    cfg.TRAINER.COCOOP = CfgNode({"N_CTX": 16, "CTX_INIT": "", "PREC": "fp16"})
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"


def config(trainer, output, ours, *opts):
    """Return a config; ``ours`` adds the line of docs/coop_users.md for the trainers' settings."""
    cfg = get_cfg_default()
    coop_extend_cfg(cfg)
    if ours:
        trainers.extend_cfg(cfg)
    options = {"TRAINER.NAME": trainer, "OUTPUT_DIR": output, "MODEL.BACKBONE.NAME": "toy"}
    options |= {"OPTIM.MAX_EPOCH": 2, "OPTIM.LR": 0.01, "INPUT.SIZE": (32, 32)}
    cfg.merge_from_list([word for pair in options.items() for word in pair])
    cfg.merge_from_list(list(opts))
    cfg.freeze()
    return cfg


def run(trainer, output, ours, *opts):
    """Build, train and test a trainer, and load its checkpoint into a second one."""
    cfg = config(trainer, output, ours, *opts)
    torch.manual_seed(0)
    built = build_trainer(cfg)
    if not trainer.startswith("ZeroshotCLIP"):
        before = {k: v.clone() for k, v in built.model.state_dict().items()}
        built.train()
        moved = [k for k, v in built.model.state_dict().items() if not torch.equal(v, before[k])]
        assert moved
        assert not any("clip_model" in key for key in moved), moved
        again = build_trainer(cfg)
        again.load_model(output, epoch=2)
        image = batches(1)[0]["img"]
        built.set_model_mode("eval")
        again.set_model_mode("eval")
        with torch.no_grad():
            assert torch.equal(built.model(image), again.model(image))
    assert 0 <= built.test() <= 100
    print(f"ran {trainer} {'with' if ours else 'without'} extend_cfg")


def check_encoders():
    """Check that the fast encoders run an unpatched CLIP."""
    model, _ = clip.load("toy")
    image = batches(1)[0]["img"]
    ids = clip.tokenize(["a photo of a face.", "a photo of a yin yang."])
    with torch.no_grad():
        pooled = encode_image(model.visual, image).pooled
        torch.testing.assert_close(pooled, model.encode_image(image), rtol=1e-4, atol=1e-5)
        packing = Packing([int(end) + 1 for end in ids.argmax(dim=-1)])
        text = encode_text(model, model.token_embedding(ids), packing)
        torch.testing.assert_close(text, model.encode_text(ids), rtol=1e-4, atol=1e-5)


def main(output):
    for package in (dassl, clip):
        assert str(HERE) in package.__file__, package.__file__
    TrainerX.build_data_loader = build_data_loader
    check_encoders()
    run("TextRefinerCoOp", f"{output}/defaults", False)
    teacher = f"{output}/PromptSRC/VLPromptLearner/model.pth.tar-2"
    options = {
        "CoCoOp": ("TRAINER.COCOOP.MAX_PROMPTS", 6),  # a key that CoOp's own section lacks
        "TCP": ("TRAINER.TCP.LAYER", 1),
        "MaPLe": ("TRAINER.MAPLE.PROMPT_DEPTH", 3),
        "MMRL": ("TRAINER.MMRL.REP_LAYERS", [2, 3]),
        "PromptSRC": (
            *("TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION", 3),
            *("TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT", 3),
        ),
        "PromptKD": (
            *("TRAINER.PROMPTKD.PROMPT_DEPTH_VISION", 3, "TRAINER.PROMPTKD.TEACHER_NAME", "toy"),
            *("TRAINER.PROMPTKD.TEACHER_WEIGHTS", teacher, "DATASET.DISTILL_ON", "few_shot"),
        ),
    }
    for trainer in TRAINERS:
        own = options.get(trainer.removeprefix("TextRefiner"), ())
        run(trainer, f"{output}/{trainer}", True, *own)


if __name__ == "__main__":
    main(sys.argv[1])
