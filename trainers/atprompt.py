"""ATPrompt (Li et al., ICCV 2025, arXiv 2412.09442) on CoOp and KgCoOp, and with TextRefiner.

Words for attributes that all classes share, each after learned tokens, precede the context.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from dassl.engine import TRAINER_REGISTRY

from .checkpoints.layouts import ATTRIBUTE_TOKENS
from .kgcoop import TEMPLATES, KgCoOpLearner
from .learner import tokenizer
from .prompting.contexts import ContextPrompts
from .settings import node
from .trainer import PromptTrainer
from .zsclip import DEFAULT_TEMPLATE

__all__ = ["ATPrompt", "AttributePrompts", "TextRefinerATPrompt"]


class AttributePrompts(ContextPrompts):
    """Prompts "<v1> attribute1 <v2> attribute2 ... <context> <class name>.".

    Each <vi> are ``n_att`` learned tokens. The state dict contains ``ctx`` (n, W) and ``ctx_att1``,
    ``ctx_att2``, ... (n_att, W), as in ATPrompt's public checkpoints, but no words: a model loads
    with other attributes of the same number.
    """

    def __init__(
        self,
        clip_model: Any,
        classnames: Sequence[str],
        attributes: Sequence[str],
        n_att: int,
        n_ctx: int,
    ) -> None:
        words = " ".join(f"{'X ' * n_att}{attribute}" for attribute in attributes)
        super().__init__(clip_model, classnames, n_ctx, lead=words)
        self.attributes = list(attributes)
        lengths = [n_att + len(tokenizer().encode(attribute)) for attribute in attributes]
        self.places = list(accumulate(lengths[:-1], initial=1))  # of the learned tokens
        self.names = [f"{ATTRIBUTE_TOKENS}{i}" for i in range(1, 1 + len(attributes))]
        width = self.ctx.shape[-1]
        for name in self.names:
            self.register_parameter(name, nn.Parameter(torch.empty(n_att, width).normal_(std=0.01)))

    def start(self) -> Tensor:
        """Return SOS, and each attribute after its learned tokens."""
        tokens = super().start()
        for place, name in zip(self.places, self.names, strict=True):
            learned = getattr(self, name).to(tokens.dtype)
            tokens = torch.cat([tokens[:place], learned, tokens[place + len(learned) :]])
        return tokens


@TRAINER_REGISTRY.register()
class ATPrompt(PromptTrainer):
    """Attribute-anchored prompts: CoOp, or KgCoOp with a WEIGHT above 0."""

    config_node = "ATPROMPT"

    def build_learner(self, clip_model: Any, classnames: list[str]) -> KgCoOpLearner:
        """Build the learner from cfg.TRAINER.ATPROMPT."""
        settings = node(self.cfg, "ATPROMPT")
        words = [" ".join(word.replace("_", " ").split()) for word in settings.ATTRIBUTES]
        prompts = AttributePrompts(clip_model, classnames, words, settings.N_ATT, settings.N_CTX)
        print(f"Attributes: {', '.join(words)}, each after {settings.N_ATT} learned tokens")
        template = TEMPLATES.get(self.cfg.DATASET.NAME, DEFAULT_TEMPLATE)
        return KgCoOpLearner(clip_model, prompts, template, classnames, settings.WEIGHT)


@TRAINER_REGISTRY.register()
class TextRefinerATPrompt(ATPrompt):
    """ATPrompt with TextRefiner."""

    refined = True
