"""Contents of the traces of each learner: settings, initial state, quantities of a step, logits."""

import math
from pathlib import Path
from typing import Any

import torch

from tests.replay_trace import Deviations, Trace
from trainers.encode import unit

# Five times the deviation of an independent implementation on such traces.
RECORDED = 5.0
# Settings and inputs must be equal.
EQUAL = {"epoch": 0.0, "lr": 1e-12, "init/ctx": 0.0, "init/tokenized_prompts": 0.0}

# The authors' 1x1 convolutions and BatchNorm -> the layers of FeatureAlignment.
LAYERS = {"conv1.0": "inner", "conv1.1": "norm", "conv1.3": "outer"}


def load_alignment(module: Any, recorded: dict[str, torch.Tensor]) -> None:
    """Load a FeatureAlignment from values by the authors' names."""
    state, own = {}, module.state_dict()
    for key, value in recorded.items():
        layer, parameter = key.rsplit(".", 1)
        target = f"{LAYERS[layer]}.{parameter}"
        state[target] = value.reshape(own[target].shape)
    module.load_state_dict(state)


def alignment_state(module: Any, prefix: str) -> dict[str, Any]:
    """Return a FeatureAlignment's state by the authors' names."""
    return {
        f"{prefix}/{old}.{name}": value
        for old, new in LAYERS.items()
        for name, value in getattr(module, new).state_dict().items()
    }


def alignment_gradients(module: Any, prefix: str) -> dict[str, Any]:
    """Return a FeatureAlignment's gradients by the authors' names."""
    return {
        f"{prefix}{old}.{name}": parameter.grad
        for old, new in LAYERS.items()
        for name, parameter in getattr(module, new).named_parameters()
    }


class CoOpKind:
    """TextRefiner on CoOp."""

    mark = "init/ctx"  # an array that only such traces contain
    limits = {
        "loss": RECORDED * 6e-6,
        "loss1": RECORDED * 6e-6,
        "loss2": RECORDED * 1.6e-5,
        "loss3": RECORDED * 6e-9,
        "cache": RECORDED * 1.3e-7,
        "ctx": RECORDED * 5.4e-7,
        "extractor": RECORDED * 4e-8,
        "bn_running_mean": RECORDED * 8e-8,
        "eval/logits": RECORDED * 3.1e-5,
        **EQUAL,
    }
    relative = ()
    share = 2e-5

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def heldout(self) -> dict[str, tuple[str, range]]:
        """Return, by split, the prefix of the recorded logits and the classes of their columns."""
        return {"test": ("eval/logits/", range(len(self.trace.classnames)))}

    def values(self, folder: Path) -> dict[str, Any]:
        """Return config values of this kind, and write the CLIP file."""
        torch.save(self.trace.tensors("clip/"), folder / "clip.pt")
        own = self.trace.settings
        return {
            "MODEL.BACKBONE.NAME": str(folder / "clip.pt"),
            "TRAINER.NAME": "TextRefinerCoOp",
            "TRAINER.COOP.N_CTX": own["n_ctx"],
            "TRAINER.COOP.CTX_INIT": own["ctx_init"],
            "TRAINER.COOP.CSC": self.trace["init/ctx"].ndim == 3,
            "TRAINER.COOP.CLASS_TOKEN_POSITION": own["class_token_position"],
            "TRAINER.COOP.PREC": "fp32",
            "TRAINER.TEXTREFINER.LOCAL_WEIGHT": 1 / own["balance"],
            "TRAINER.TEXTREFINER.REG_WEIGHT": float(own["distill"]),
        }

    @torch.no_grad()
    def set_initial_state(self, model: Any, deviations: Deviations) -> None:
        """Load the recorded initial state; the context must already be equal to it."""
        prompts, trace = model.learner.prompts, self.trace
        if trace.settings["ctx_init"]:
            deviations.add("init/ctx", prompts.ctx, trace["init/ctx"])
        eot = trace["init/tokenized_prompts"].argmax(-1)
        deviations.add("init/tokenized_prompts", torch.tensor(prompts.packing.eot), eot)
        prompts.ctx.copy_(trace.tensor("init/ctx"))

    def watched(self, model: Any) -> dict[str, tuple[Any, str]]:
        """Return further methods to compare results of, in addition to those of every kind."""
        return {"encode_text": (model.learner, "encode_text")}

    def quantities(self, model: Any, summary: Any, seen: dict[str, Any]) -> dict[str, Any]:
        """Return the quantities recorded at every step; losses are unweighted."""
        return {
            "loss1": summary["ce"],
            "loss2": summary["semantic"] / model.settings.local_weight,
            "loss3": summary["regularizer"] / model.settings.reg_weight,
            "ctx": model.learner.prompts.ctx,
            "bn_running_mean": model.refiner.align.norm.running_mean,
            "bn_running_var": model.refiner.align.norm.running_var,
        }

    def debug(self, model: Any, seen: dict[str, Any]) -> dict[str, Any]:
        """Return the quantities recorded only at the first and last step."""
        return {
            "debug/text_features": seen["encode_text"],
            "debug/image_features": unit(seen["encode_image"].pooled),
            "debug/grad_ctx": model.learner.prompts.ctx.grad,
            **alignment_gradients(model.refiner.align, "debug/grad_mid_image_trans/"),
        }

    def compare_end(self, model: Any, deviations: Deviations) -> None:
        """Compare everything recorded about the trained model except logits."""
        text = model.learner.encode_text()
        refined = model.refiner(text)
        own = {"eval/text_features": text, "eval/fine_text_features": refined}
        for key, value in own.items():
            if key in self.trace.arrays:
                deviations.add(key, value, self.trace[key])


class PromptKDKind:
    """TextRefiner on PromptKD, base2novel: trained on all classes, val is base and test is new."""

    mark = "init/student_prompts/VPT"
    limits = {
        "loss": RECORDED * 1.1e-5,
        "L_ukd": RECORDED * 3.8e-6,
        "L_sem": RECORDED * 2.9e-6,
        "L_mem": RECORDED * 1.9e-9,
        "cache": RECORDED * 1.5e-6,
        "extractor": RECORDED * 3.7e-7,
        "student_prompts": RECORDED * 1.6e-6,
        "eval/logits": RECORDED * 2.2e-4,
        **EQUAL,
    }
    # The total includes KD_WEIGHT, so its deviation is taken relative to it.
    relative = ("loss", "L_sem")
    # Its gradients pass through 12 blocks and include KD_WEIGHT.
    share = 1e-4

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def heldout(self) -> dict[str, tuple[str, range]]:
        """Return, by split, the prefix of the recorded logits and the classes of their columns."""
        count = len(self.trace.classnames)
        base = math.ceil(count / 2)
        return {
            "val": ("eval/logits/val/", range(base)),
            "test": ("eval/logits/test/", range(base, count)),
        }

    def values(self, folder: Path) -> dict[str, Any]:
        """Return config values of this kind, and write both CLIPs and the teacher's checkpoint."""
        trace, files = self.trace, {name: folder / f"{name}.pt" for name in ("student", "teacher")}
        for name, path in files.items():
            torch.save(trace.tensors(f"{name}_clip/"), path)
        prompts = {"state_dict": trace.tensors("init/teacher_prompt_params/"), "epoch": 20}
        torch.save(prompts, folder / "teacher.pth.tar")
        design = trace.settings["student_design"]
        return {
            "MODEL.BACKBONE.NAME": str(files["student"]),
            "TRAINER.NAME": "TextRefinerPromptKD",
            "TRAINER.PROMPTKD.TEACHER_NAME": str(files["teacher"]),
            "TRAINER.PROMPTKD.TEACHER_WEIGHTS": str(folder / "teacher.pth.tar"),
            "TRAINER.PROMPTKD.N_CTX_VISION": design["vision_ctx"],
            "TRAINER.PROMPTKD.PROMPT_DEPTH_VISION": design["vision_depth"],
            "TRAINER.PROMPTKD.KD_WEIGHT": trace.settings["kd_weight"],
            "TRAINER.PROMPTKD.TEMPERATURE": trace.settings["temperature"],
            "TRAINER.PROMPTKD.PREC": "fp32",
            "DATASET.DISTILL_ON": "few_shot",  # the images that the dataset lists
        }

    @torch.no_grad()
    def set_initial_state(self, model: Any, deviations: Deviations) -> None:
        """Load the recorded initial state; the teacher's output must already match the trace."""
        learner, trace = model.learner, self.trace
        learner.prompts.load_state_dict(trace.tensors("init/student_prompts/"))
        load_alignment(learner.projector, trace.tensors("init/VPT_image_trans/"))
        eot = trace["init/teacher_tokenized_prompts"].argmax(-1)
        own = torch.tensor(learner.teacher.prompts.packing.eot)
        deviations.add("init/tokenized_prompts", own, eot)

    def watched(self, model: Any) -> dict[str, tuple[Any, str]]:
        """Return further methods to compare results of, in addition to those of every kind."""
        return {
            "objective": (model.learner, "objective"),
            "teacher.encode_image": (model.learner.teacher, "encode_image"),
        }

    def quantities(self, model: Any, summary: Any, seen: dict[str, Any]) -> dict[str, Any]:
        """Return the quantities recorded at every step; losses are unweighted."""
        weight, settings = model.learner.weight, model.settings
        student = seen["encode_image"]
        return {
            "L_ukd": summary["kd"] / weight,
            "L_sem": summary["semantic"] / (weight * settings.local_weight),
            "L_mem": summary["regularizer"] / (weight * settings.reg_weight),
            "image_features": unit(student.pooled),
            **{
                f"student_prompts/{key}": value
                for key, value in model.learner.prompts.state_dict().items()
            },
        }

    def debug(self, model: Any, seen: dict[str, Any]) -> dict[str, Any]:
        """Return the quantities recorded only at the first and last step."""
        learner = model.learner
        return {
            "teacher/0": unit(seen["teacher.encode_image"].pooled),
            "teacher/1": learner.teacher_text,
            "teacher/2": seen["objective"].target,
            "debug/raw_cls": seen["encode_image"].local[:, 0],
            **{
                f"debug/grad/image_encoder.{key}": parameter.grad
                for key, parameter in learner.prompts.named_parameters()
            },
            **alignment_gradients(learner.projector, "debug/grad/VPT_image_trans."),
            **alignment_gradients(model.refiner.align, "debug/grad/mid_image_trans."),
            **alignment_state(learner.projector, "debug/VPT_image_trans_after"),
        }

    def compare_end(self, model: Any, deviations: Deviations) -> None:
        """Compare everything recorded about the trained model except logits."""
        own = alignment_state(model.learner.projector, "final/VPT_image_trans")
        own |= alignment_state(model.refiner.align, "final/mid_image_trans")
        for key, value in self.trace.below("final/").items():
            deviations.add(f"final/{key}", own[f"final/{key}"], value)


KINDS = (CoOpKind, PromptKDKind)
