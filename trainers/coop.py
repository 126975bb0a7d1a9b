"""CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134) and TextRefiner on CoOp."""

from typing import Any

from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from . import learner
from .checkpoints.layouts import PROMPT_LEARNER

# Other repositories import these from here (docs/coop_users.md).
from .coop_names import CustomCLIP, PromptLearner, TextEncoder, load_clip_to_cpu
from .encode import encode_text, unit
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer

__all__ = [
    "CoOp",
    "CoOpLearner",
    "CustomCLIP",
    "PromptLearner",
    "TextEncoder",
    "TextRefiner",
    "TextRefinerCoOp",
    "load_clip_to_cpu",
]


class CoOpLearner(learner.PromptLearner):
    """A learned context around the class names, shared by all images."""

    def __init__(self, clip_model: Any, prompts: ContextPrompts) -> None:
        super().__init__(clip_model)
        self.prompts = prompts

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """The context."""
        return {PROMPT_LEARNER: self.prompts}

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """Return text features (C, d)."""
        return unit(encode_text(self.clip_model, *self.prompts()))


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Context optimization."""

    config_node = "COOP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CoOpLearner:
        """Build the learner from cfg.TRAINER.COOP."""
        settings = node(self.cfg, "COOP")
        prompts = ContextPrompts(
            clip_model,
            classnames,
            n_ctx=settings.N_CTX,
            ctx_init=settings.CTX_INIT,
            class_specific=settings.CSC,
            position=settings.CLASS_TOKEN_POSITION,
        )
        return CoOpLearner(clip_model, prompts)


@TRAINER_REGISTRY.register()
class TextRefinerCoOp(CoOp):
    """CoOp with TextRefiner."""

    refined = True


@TRAINER_REGISTRY.register()
class TextRefiner(TextRefinerCoOp):
    """TextRefiner on CoOp under the name that the authors' release registers."""
