"""CoCoOp (Zhou et al., CVPR 2022, arXiv 2203.05557) and TextRefiner on CoCoOp.

Every image has prompts of its own, so B images and C classes are B C runs of the text tower
(TRAINER.COCOOP.MAX_PROMPTS bounds how many of them at once).
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .coop import CoOpLearner
from .encode import encode_text, unit
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer

__all__ = ["CoCoOp", "CoCoOpLearner", "ConditionalPrompts", "TextRefinerCoCoOp"]


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
    """

    text_per_image = True
    prompts: ConditionalPrompts

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """(B, C, d) for L2-normalized global image features (B, d)."""
        prompts = self.prompts(self.prompts.meta_net(features))
        return unit(encode_text(self.clip_model, *prompts))


@TRAINER_REGISTRY.register()
class CoCoOp(PromptTrainer):
    """Conditional context optimization."""

    config_node = "COCOOP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CoCoOpLearner:
        """cfg.TRAINER.COCOOP -> learner."""
        settings = node(self.cfg, "COCOOP")
        prompts = ConditionalPrompts(
            clip_model, classnames, n_ctx=settings.N_CTX, ctx_init=settings.CTX_INIT
        )
        return CoCoOpLearner(clip_model, prompts)


@TRAINER_REGISTRY.register()
class TextRefinerCoCoOp(CoCoOp):
    """CoCoOp with TextRefiner: text features are read, aggregated and regularized per image."""

    refined = True
