"""CoCoOp (Zhou et al., CVPR 2022, arXiv 2203.05557) and TextRefiner on CoCoOp.

The prompts depend on the image, so B images and C classes need B C text encoder passes.
TRAINER.COCOOP.MAX_PROMPTS bounds how many run at once.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import META_NET
from .coop import CoOpLearner
from .encode import encode_text, unit
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer

__all__ = ["CoCoOp", "CoCoOpLearner", "ConditionalPrompts", "TextRefinerCoCoOp"]


class ConditionalPrompts(ContextPrompts):
    """A shared context and the network that shifts it per image.

    The state dict contains ``ctx`` (n, W) and ``meta_net.{linear1,linear2}.{weight,bias}``, as in
    CoCoOp's public checkpoints.
    """

    def __init__(
        self, clip_model: Any, classnames: Sequence[str], n_ctx: int = 16, ctx_init: str = ""
    ) -> None:
        super().__init__(clip_model, classnames, n_ctx=n_ctx, ctx_init=ctx_init)
        dim, width = clip_model.text_projection.shape[1], self.ctx.shape[-1]
        layers = nn.Linear(dim, dim // 16), nn.ReLU(inplace=True), nn.Linear(dim // 16, width)
        self.meta_net = nn.Sequential(OrderedDict(zip(META_NET, layers, strict=True)))


class CoCoOpLearner(CoOpLearner):
    """The context ctx_b = ctx + meta_net(g_b) in front of the class names."""

    text_per_image = True
    prompts: ConditionalPrompts

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (B, C, d) for L2-normalized global image features (B, d)."""
        prompts = self.prompts(self.prompts.meta_net(features))
        return unit(encode_text(self.clip_model, *prompts))


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Conditional context optimization."""

    config_node = "COCOOP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CoCoOpLearner:
        """Build the learner from cfg.TRAINER.COCOOP."""
        settings = node(self.cfg, "COCOOP")
        prompts = ConditionalPrompts(
            clip_model, classnames, n_ctx=settings.N_CTX, ctx_init=settings.CTX_INIT
        )
        return CoCoOpLearner(clip_model, prompts)


@TRAINER_REGISTRY.register()
class TextRefinerCoCoOp(CoCoOp):
    """CoCoOp with TextRefiner, which refines and regularizes text features per image."""

    refined = True
