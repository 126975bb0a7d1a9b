"""Write a trainer's output folder in the layout of the public code with PREC fp16.

Each function writes the keys of one code base according to its modules (trainers/coop.py of CoOp,
kgcoop.py of KgCoOp, tcp.py of TCP, coop_atp.py of ATPrompt, maple.py of MaPLe, promptsrc.py of
PromptSRC, mmrl.py of MMRL, taskres.py of TaskRes, clip_adapter.py of CLIP-Adapter, promptkd.py of
PromptKD, the release's two files): no name is taken from the code under test.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip import clip
from clip.model import convert_weights
from tests.toy import toy_clip

EPOCH = 10
State = dict[str, Tensor]


def half_clip(**sizes: Any) -> State:
    """Return toy CLIP weights as after OpenAI's build_model: mostly in fp16."""
    model = toy_clip(**sizes)
    convert_weights(model)
    return {key: value.detach() for key, value in model.state_dict().items()}


def image_encoder(weights: State, prefix: str = "image_encoder.") -> State:
    """Return ``clip_model.visual`` under another name."""
    return {prefix + k[7:]: v for k, v in weights.items() if k.startswith("visual.")}


def text_encoder(weights: State) -> State:
    """Return the public TextEncoder: the text encoder without its token embedding."""
    return {
        f"text_encoder.{key}": value
        for key, value in weights.items()
        if not key.startswith(("visual.", "token_embedding.")) and key != "logit_scale"
    }


def class_buffers(n_ctx: int, classes: int = 3, prefix: str = "") -> State:
    """Return the unused token_prefix and token_suffix."""
    shapes = {"token_prefix": (classes, 1, 64), "token_suffix": (classes, 76 - n_ctx, 64)}
    return {prefix + key: torch.zeros(shape).half() for key, shape in shapes.items()}


def save(folder: Path, name: str, state: State, **more: Any) -> None:
    """Save a file with the keys of Dassl's save_model."""
    (folder / name).mkdir(parents=True)
    content = {"state_dict": state, "epoch": EPOCH, "optimizer": {}, "scheduler": {}, **more}
    torch.save({**content, "val_result": None}, folder / name / f"model.pth.tar-{EPOCH}")
    (folder / name / "checkpoint").write_text(f"model.pth.tar-{EPOCH}\n")


def halved(module: Any) -> State:
    """Return learned tensors in fp16; integer tensors are unchanged."""
    return {
        key: value.half() if value.is_floating_point() else value
        for key, value in module.state_dict().items()
    }


def coop(folder: Path, trainer: Any) -> None:
    """Save CoOp or CoCoOp, which register only the prompt learner."""
    state = halved(trainer.model.learner.prompts)
    save(folder, "prompt_learner", state | class_buffers(16))


def kgcoop(folder: Path, trainer: Any) -> None:
    """Save KgCoOp, which creates a bias and a network that it does not use."""
    state = halved(trainer.model.learner.prompts) | class_buffers(4)
    state["bias_vectors"] = torch.zeros(1, 64).half()
    state |= {"meta_net.linear1.weight": torch.zeros(64, 64).half()}
    save(folder, "prompt_learner", state | {"meta_net.linear1.bias": torch.zeros(64).half()})


def tcp(folder: Path, trainer: Any) -> None:
    """Save TCP, which registers only the prompt learner."""
    save(folder, "prompt_learner", halved(trainer.model.learner.prompts) | class_buffers(4))


def atprompt(folder: Path, trainer: Any) -> None:
    """Save ATPrompt on CoOp, which creates tokens for three attributes and uses two."""
    state = halved(trainer.model.learner.prompts) | {"ctx_att3": torch.zeros(2, 64).half()}
    middle = {f"token_middle{i}": torch.zeros(3, 1, 64).half() for i in (1, 2)}
    save(folder, "prompt_learner", state | middle | class_buffers(8))


def maple(folder: Path, trainer: Any) -> None:
    """Save MaPLe, which registers the whole model."""
    weights = half_clip()
    own = {f"prompt_learner.{k}": v for k, v in halved(trainer.model.learner.prompts).items()}
    state = own | class_buffers(2, prefix="prompt_learner.") | image_encoder(weights)
    state |= text_encoder(weights) | {"logit_scale": weights["logit_scale"]}
    save(folder, "MultiModalPromptLearner", state)


def promptsrc(folder: Path, trainer: Any) -> None:
    """Save PromptSRC, which registers the whole model and averages all of it in fp16."""
    weights = half_clip()
    own = {k: v for k, v in halved(trainer.model.learner.deep).items() if k != "aggregate"}
    state = class_buffers(4, prefix="prompt_learner.")
    state |= image_encoder(weights) | image_encoder(weights, "prompt_learner.ZS_image_encoder.")
    state |= text_encoder(weights) | {"logit_scale": weights["logit_scale"]}
    epochs = torch.tensor([-((e - 30) ** 2) / 1800 for e in range(50)]).softmax(0).tolist()
    averaged = {key: torch.zeros_like(value) for key, value in state.items()}
    for weight in epochs:
        for key in averaged:
            averaged[key] += state[key] * weight
    save(folder, "VLPromptLearner", averaged | own)


def mmrl(folder: Path, trainer: Any) -> None:
    """Save MMRL, which registers the whole model without logit_scale and class buffers."""
    weights, learner = half_clip(), trainer.model.learner
    state = {f"representation_learner.{k}": v for k, v in halved(learner.tokens).items()}
    state |= image_encoder(weights) | text_encoder(weights)
    state["image_encoder.proj_rep"] = learner.second.proj_rep.detach().half()
    save(folder, "MultiModalPromptLearner", state)


def taskres(folder: Path, trainer: Any) -> None:
    """Save TaskRes, which registers the residual with the text features that it is added to."""
    save(folder, "prompt_learner", halved(trainer.model.learner.prompts))


def clip_adapter(folder: Path, trainer: Any) -> None:
    """Save CLIP-Adapter, which registers the adapter alone, in float32."""
    weights = [p.detach() for p in trainer.model.learner.adapter.parameters()]
    names = ("fc.0.weight", "fc.2.weight")
    save(folder, "clip_adapter", dict(zip(names, weights, strict=True)))


CONVOLUTIONS = {"inner": "conv1.0", "norm": "conv1.1", "outer": "conv1.3"}


def two_layers(prefix: str, module: Any) -> State:
    """Return the public 1x1 convolutions around a BatchNorm."""
    state = {}
    for key, value in halved(module).items():
        layer, parameter = key.split(".")
        convolution = value[..., None, None] if value.dim() == 2 else value
        state[f"{prefix}.{CONVOLUTIONS[layer]}.{parameter}"] = convolution
    return state


def promptkd_state(trainer: Any) -> State:
    """Return the student: image encoder with its visual prompts, and projector."""
    weights, learner = half_clip(), trainer.model.learner
    prompts = {f"image_encoder.{k}": v for k, v in halved(learner.prompts).items()}
    state = {"logit_scale": weights["logit_scale"]} | image_encoder(weights) | prompts
    return state | two_layers("VPT_image_trans", learner.projector)


def promptkd(folder: Path, trainer: Any) -> None:
    """Save PromptKD, which registers the student."""
    save(folder, "VLPromptLearner", promptkd_state(trainer))


def memory(folder: Path, trainer: Any) -> None:
    """Save the release's second model, with the cache next to its state dict."""
    refiner = trainer.model.refiner
    state = {"extractor.weight": refiner.aggregate.weight.detach()}
    save(folder, "Memory", state, memory_item=refiner.cache.entries)


def release_promptkd(folder: Path, trainer: Any) -> None:
    """Save in the layout of TextRefiner's release on PromptKD."""
    state = promptkd_state(trainer) | two_layers("mid_image_trans", trainer.model.refiner.align)
    save(folder, "VLPromptLearner", state)
    memory(folder, trainer)


def release_coop(folder: Path, trainer: Any) -> None:
    """Save TextRefiner's release on CoOp: the whole model with token embedding and prompt ids."""
    weights = half_clip()
    names = [name.replace("_", " ") for name in trainer.dm.dataset.classnames]
    ids = clip.tokenize([f"{'X ' * 16}{name}." for name in names]).long()
    embedding = weights["token_embedding.weight"][ids].half()
    state = {
        "logit_scale": weights["logit_scale"],
        "prompt_learner.ctx": trainer.model.learner.prompts.ctx.detach().half(),
        "prompt_learner.token_prefix": embedding[:, :1],
        "prompt_learner.token_suffix": embedding[:, 17:],
        "prompt_learner.tokenized_prompts": ids,
    }
    state |= image_encoder(weights) | text_encoder(weights)
    state["text_encoder.token_embedding.weight"] = weights["token_embedding.weight"]
    save(
        folder, "prompt_learner", state | two_layers("mid_image_trans", trainer.model.refiner.align)
    )
    memory(folder, trainer)


# Trainer -> function that saves it in the public layout.
LAYOUTS = {
    "CoOp": coop,
    "CoCoOp": coop,
    "KgCoOp": kgcoop,
    "TCP": tcp,
    "ATPrompt": atprompt,
    "MaPLe": maple,
    "PromptSRC": promptsrc,
    "MMRL": mmrl,
    "TaskRes": taskres,
    "CLIPAdapter": clip_adapter,
    "PromptKD": promptkd,
    "TextRefinerCoOp": release_coop,
    "TextRefinerPromptKD": release_promptkd,
}
