"""CoOp (Zhou et al., IJCV 2022, arXiv 2109.01134) and TextRefiner on CoOp."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .encode import ImageTokens, encode_image, encode_text, unit
from .feature_store.features import frozen_tower
from .learner import Objective
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer

__all__ = ["CoOp", "CoOpLearner", "TextRefiner", "TextRefinerCoOp"]


class CoOpLearner(nn.Module):
    """A context shared by all images in front of (around) the class names.

    Args:
        clip_model: frozen.
        prompts: the learned context.
    """

    text_per_image = False

    def __init__(self, clip_model: Any, prompts: ContextPrompts) -> None:
        super().__init__()
        self.clip_model = clip_model
        self.prompts = prompts

    @property
    def trainable_modules(self) -> dict[str, nn.Module]:
        """The context alone."""
        return {"prompt_learner": self.prompts}

    @property
    def logit_scale(self) -> Tensor:
        """tau."""
        return self.clip_model.logit_scale.exp()

    @property
    def text_dim(self) -> int:
        """d, CLIP's joint width."""
        return self.clip_model.text_projection.shape[1]

    @frozen_tower
    def encode_image(self, image: Tensor, local: bool) -> ImageTokens:
        """The frozen vision tower."""
        return encode_image(self.clip_model.visual, image, local=local)

    def encode_text(self, features: Tensor | None = None) -> Tensor:
        """(C, d); ``features`` are not used."""
        return unit(encode_text(self.clip_model, *self.prompts()))

    def objective(self, image: Tensor, label: Tensor) -> Objective:
        """Cross-entropy with the labels."""
        return Objective("ce", 1.0, label, F.cross_entropy)

    def extra_losses(
        self, image: Tensor, features: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """None."""
        return {}


@TRAINER_REGISTRY.register()
class CoOp(PromptTrainer):
    """Context optimization."""

    config_node = "COOP"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> CoOpLearner:
        """cfg.TRAINER.COOP -> learner."""
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
    """The name under which the authors' release registers TextRefiner on CoOp."""
