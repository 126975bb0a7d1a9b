"""CoCoOp (Zhou et al., CVPR 2022, arXiv 2203.05557) and TextRefiner on CoCoOp.

Every image has prompts of its own, so B images and C classes are B C runs of the text tower. They
go through it in chunks of at most MAX_PROMPTS; where there are several, a training step keeps the
activations of one of them at a time and computes the others again in its backward pass.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dassl.engine import TRAINER_REGISTRY

from .base import PromptTrainer
from .coop import CoOpLearner
from .encode import encode_text, unit
from .prompts import ContextPrompts
from .settings import SettingsError, node

__all__ = ["CoCoOp", "CoCoOpLearner", "ConditionalPrompts", "TextRefinerCoCoOp"]

# What autograd keeps of a token in a block with frozen weights, in widths of the tower, at most:
# the inputs of two layer norms (4, in float32), queries, keys, values and their copies behind the
# prefix (6), the attended values (2), the MLP's hidden layer and its sigmoid (8). A test measures.
WIDTHS_PER_TOKEN = 20
# Taken as the free memory of a CPU, so that neither the chunks nor their rounding depend on what
# else is running: training on a CPU can be repeated to the bit.
CPU_MEMORY = 4 * 2**30


class ConditionalPrompts(ContextPrompts):
    """A shared context and the network that moves it by what an image shows.

    The state dict holds ``ctx`` (n, W) and ``meta_net.{linear1,linear2}.{weight,bias}``, the names
    of CoCoOp's public checkpoints.
    """

    def __init__(
        self, clip_model: Any, classnames: Sequence[str], n_ctx: int = 16, ctx_init: str = ""
    ) -> None:
        super().__init__(clip_model, classnames, n_ctx=n_ctx, ctx_init=ctx_init)
        dim, width = clip_model.text_projection.shape[1], self.ctx.shape[-1]
        layers = OrderedDict[str, nn.Module]()
        layers["linear1"] = nn.Linear(dim, dim // 16)
        layers["relu"] = nn.ReLU(inplace=True)
        layers["linear2"] = nn.Linear(dim // 16, width)
        self.meta_net = nn.Sequential(layers)


class CoCoOpLearner(CoOpLearner):
    """ctx_b = ctx + meta_net(g_b) in front of the class names.

    Args:
        clip_model: frozen.
        prompts: the learned context and meta-net.
        max_prompts: how many prompts may be in the text tower at once, at least 1.
    """

    text_per_image = True
    prompts: ConditionalPrompts

    def __init__(self, clip_model: Any, prompts: ConditionalPrompts, max_prompts: int) -> None:
        super().__init__(clip_model, prompts)
        self.max_prompts = max_prompts

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """(B, C, d) for L2-normalised global image features (B, d)."""
        embeddings, eot, prefix, length = self.prompts(self.prompts.meta_net(features))

        def encode(prefix: Tensor, embeddings: Tensor, eot: Tensor) -> Tensor:
            text = encode_text(self.clip_model, embeddings, eot, prefix=prefix, length=length)
            return unit(text)

        # Whole images while one fits, else the classes of one image in parts.
        classes = min(self.max_prompts, len(eot))
        images = max(1, self.max_prompts // len(eot))
        parts = list(zip(embeddings.split(classes), eot.split(classes), strict=True))
        several = len(prefix) > images or len(parts) > 1
        run: Callable[..., Tensor] = encode
        if several and torch.is_grad_enabled():
            # The tower draws no random numbers, so there is no random state to restore.
            run = partial(checkpoint, encode, use_reentrant=False, preserve_rng_state=False)
        return torch.cat(
            [torch.cat([run(group, *part) for part in parts], 1) for group in prefix.split(images)]
        )


def automatic_max_prompts(clip_model: Any, length: int, device: torch.device) -> int:
    """The largest power of two of prompts whose activations fill half of the free memory.

    The other half is for images, text features, the refiner and what the estimate misses.

    Args:
        clip_model: its text tower sets the size of an activation.
        length: tokens of the longest prompt.
        device: a GPU is asked what is free; for a CPU it is `CPU_MEMORY`.
    """
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else CPU_MEMORY
    tokens = length * len(clip_model.transformer.resblocks)
    width = clip_model.ln_final.weight.shape[0]
    prompt = tokens * width * WIDTHS_PER_TOKEN * clip_model.dtype.itemsize
    return 1 << max(1, free // 2 // prompt).bit_length() - 1


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Conditional context optimisation."""

    config_node = "COCOOP"

    def check_cfg(self, cfg: Any) -> None:
        """Refuse settings that cannot work before anything is loaded."""
        super().check_cfg(cfg)
        if node(cfg, "COCOOP").MAX_PROMPTS < 0:
            raise SettingsError(
                "TRAINER.COCOOP.MAX_PROMPTS must be a number of prompts, or 0 to choose it from "
                f"the free memory, got {node(cfg, 'COCOOP').MAX_PROMPTS}"
            )

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CoCoOpLearner:
        """cfg.TRAINER.COCOOP -> learner."""
        settings = node(self.cfg, "COCOOP")
        prompts = ConditionalPrompts(
            clip_model, classnames, n_ctx=settings.N_CTX, ctx_init=settings.CTX_INIT
        )
        limit, origin = settings.MAX_PROMPTS, "TRAINER.COCOOP.MAX_PROMPTS"
        if limit == 0:
            limit = automatic_max_prompts(clip_model, prompts.length, self.device)
            origin = f"automatic, {origin} 0"
        print(f"Prompts (images x classes) in the text tower at once: {limit:,} at most ({origin})")
        return CoCoOpLearner(clip_model, prompts, limit)


@TRAINER_REGISTRY.register()
class TextRefinerCoCoOp(CoCoOp):
    """CoCoOp with TextRefiner: text features are read, aggregated and regularised per image."""

    refined = True
