"""CLIP with OpenAI's module names, so that its weights load and code written for it runs.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(https://arxiv.org/abs/2103.00020). Transformers take and return LND: sequence, batch, width.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .errors import WeightsError
from .resnet import AttentionPool2d, Bottleneck, ModifiedResNet

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "Bottleneck",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]

HEAD_WIDTH = 64  # channels of an attention head, in every model of OpenAI

# OpenAI's archives carry these sizes among the weights; they follow from the tensors' shapes.
SIZE_ENTRIES = ("input_resolution", "context_length", "vocab_size")


class LayerNorm(nn.LayerNorm):
    """Layer normalization in float32 (or wider) whatever the input, whose dtype it returns."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        normed = F.layer_norm(
            x.to(dtype), self.normalized_shape, self.weight.to(dtype), self.bias.to(dtype), self.eps
        )
        return normed.to(x.dtype)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x): the approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm attention and a two-layer perceptron, each around a shortcut.

    ``attn_mask`` (L, L) is added to the attention logits.
    """

    attn_mask: torch.Tensor | None

    def __init__(
        self,
        d_model: int,
        n_head: int,
        attn_mask: torch.Tensor | None = None,
        activation: type[nn.Module] = QuickGELU,
    ) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(d_model, n_head)
        self.ln_1 = LayerNorm(d_model)
        mlp = OrderedDict[str, nn.Module]()
        mlp["c_fc"] = nn.Linear(d_model, d_model * 4)
        mlp["gelu"] = activation()
        mlp["c_proj"] = nn.Linear(d_model * 4, d_model)
        self.mlp = nn.Sequential(mlp)
        self.ln_2 = LayerNorm(d_model)
        self.register_buffer("attn_mask", attn_mask, persistent=False)

    def attention(self, x: torch.Tensor) -> torch.Tensor:
        mask = None if self.attn_mask is None else self.attn_mask.to(x)
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(L, N, d_model) -> (L, N, d_model)."""
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of residual attention blocks, ``resblocks``, on LND tensors."""

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        attn_mask: torch.Tensor | None = None,
        activation: type[nn.Module] = QuickGELU,
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = layers
        self.resblocks = nn.Sequential(
            *[ResidualAttentionBlock(width, heads, attn_mask, activation) for _ in range(layers)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(L, N, width) -> (L, N, width)."""
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    """CLIP's image tower of patches: the CLS token's last state, projected to ``output_dim``."""

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        activation: type[nn.Module] = QuickGELU,
    ) -> None:
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        patches = (input_resolution // patch_size) ** 2
        scale = width**-0.5
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(1 + patches, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation=activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, input_resolution, input_resolution) -> features (B, output_dim)."""
        x = self.conv1(x).flatten(start_dim=2).transpose(1, 2)  # (B, patches, width)
        cls = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        x = torch.cat([cls, x], dim=1) + self.positional_embedding.to(x.dtype)
        x = self.ln_pre(x).permute(1, 0, 2)  # LND
        x = self.transformer(x)
        return self.ln_post(x[0]) @ self.proj


class CLIP(nn.Module):
    """An image tower ``visual`` and a text transformer into one space of ``embed_dim``.

    ``vision_layers`` is a number for a vision transformer, four of them for a ResNet (which has no
    ``vision_patch_size``). Sizes are in pixels, channels and tokens.
    """

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: int | Sequence[int],
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
        activation: type[nn.Module] = QuickGELU,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.visual: VisionTransformer | ModifiedResNet
        if isinstance(vision_layers, int):
            if vision_patch_size is None:
                raise ValueError("a vision transformer needs a vision_patch_size, got None")
            self.visual = VisionTransformer(
                input_resolution=image_resolution,
                patch_size=vision_patch_size,
                width=vision_width,
                layers=vision_layers,
                heads=vision_width // HEAD_WIDTH,
                output_dim=embed_dim,
                activation=activation,
            )
        else:
            self.visual = ModifiedResNet(
                layers=vision_layers,
                output_dim=embed_dim,
                heads=vision_width * 32 // HEAD_WIDTH,
                input_resolution=image_resolution,
                width=vision_width,
            )
        self.transformer = Transformer(
            transformer_width,
            transformer_layers,
            transformer_heads,
            attn_mask=self.build_attention_mask(),
            activation=activation,
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Starting values for training from scratch: GPT-2's scheme, as in the paper."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=self.transformer.width**-0.5)
        _initialize_transformer(self.transformer)
        if isinstance(self.visual, ModifiedResNet):
            _initialize_resnet(self.visual)

    def build_attention_mask(self) -> torch.Tensor:
        """(context_length, context_length): -inf above the diagonal, where the future is."""
        size = (self.context_length, self.context_length)
        # On the CPU by name: build_model makes the rest on the meta device, without values.
        return torch.full(size, float("-inf"), device="cpu").triu_(1)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> features (B, embed_dim), not normalized."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: torch.Tensor) -> torch.Tensor:
        """Token ids (N, context_length) -> features (N, embed_dim), not normalized."""
        x = self.token_embedding(text).to(self.dtype)
        x = x + self.positional_embedding.to(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).to(self.dtype)
        # The end-of-text token has the greatest id; its state stands for the text.
        eot = text.argmax(dim=-1)
        return x[torch.arange(x.shape[0], device=x.device), eot] @ self.text_projection

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """B images and N texts -> scaled cosines (B, N) and their transpose (N, B)."""
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_features @ text_features.t()
        return logits, logits.t()


def _initialize_transformer(transformer: Transformer) -> None:
    width, residual = transformer.width, 2 * transformer.layers  # layers that add to the stream
    deviations = {
        "attn.in_proj_weight": width**-0.5,
        "attn.out_proj.weight": (width * residual) ** -0.5,
        "mlp.c_fc.weight": (2 * width) ** -0.5,
        "mlp.c_proj.weight": (width * residual) ** -0.5,
    }
    for block in transformer.resblocks:
        for name, std in deviations.items():
            nn.init.normal_(block.get_parameter(name), std=std)


def _initialize_resnet(visual: ModifiedResNet) -> None:
    pool = visual.attnpool
    for projection in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
        nn.init.normal_(projection.weight, std=pool.c_proj.in_features**-0.5)
    for module in visual.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)  # each block starts as its shortcut


def convert_weights(model: nn.Module) -> None:
    """Convert to fp16, in place, what OpenAI's models hold in fp16.

    These are the convolutions, linear layers, attentions and projections: norms and embeddings
    stay as they are.
    """
    for module in model.modules():
        own: list[nn.Parameter | None] = []
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)):
            own += module.parameters(recurse=False)
        own += [getattr(module, name, None) for name in ("text_projection", "proj")]
        for parameter in own:
            if isinstance(parameter, nn.Parameter):
                parameter.data = parameter.data.half()


def build_model(
    state_dict: Mapping[str, torch.Tensor], *, quick_gelu: bool = True, fp16: bool = True
) -> CLIP:
    """A CLIP in eval mode that owns a copy of these weights; every size follows from their shapes.

    ``quick_gelu`` is right for OpenAI's weights; some of open_clip's were trained with GELU.
    ``fp16`` converts as :func:`convert_weights` does; otherwise the model is in float32.

    Raises:
        WeightsError: the tensors are not those of a CLIP in OpenAI's layout.
    """
    weights = {name: value for name, value in state_dict.items() if name not in SIZE_ENTRIES}
    sizes = infer_sizes(weights)
    # Without values: what is random here would be overwritten, and would use up random numbers.
    with torch.device("meta"):
        model = CLIP(**sizes, activation=QuickGELU if quick_gelu else nn.GELU)
    _check_layout(weights, model.state_dict())
    copies = {name: _own_copy(value) for name, value in weights.items()}
    model.load_state_dict(copies, assign=True)
    if fp16:
        convert_weights(model)
    return model.eval()


def infer_sizes(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The arguments of :class:`CLIP` that give a model of these weights' shapes."""
    try:
        vision = _vit_sizes(weights) if "visual.proj" in weights else _resnet_sizes(weights)
        transformer_width = weights["ln_final.weight"].shape[0]
        return {
            **vision,
            "embed_dim": weights["text_projection"].shape[1],
            "context_length": weights["positional_embedding"].shape[0],
            "vocab_size": weights["token_embedding.weight"].shape[0],
            "transformer_width": transformer_width,
            "transformer_heads": _heads(transformer_width),
            "transformer_layers": _count(weights, r"transformer\.resblocks\.(\d+)\."),
        }
    except KeyError as error:
        some = ", ".join(list(weights)[:5]) or "nothing"
        raise WeightsError(
            f"not the weights of a CLIP in OpenAI's layout: there is no {error} among their"
            f" {len(weights)} names ({some}, ...)"
        ) from error


def _vit_sizes(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    width, _, _, patch = weights["visual.conv1.weight"].shape
    _heads(width)  # refuses a width that has no whole number of them
    grid = math.isqrt(weights["visual.positional_embedding"].shape[0] - 1)
    return {
        "vision_layers": _count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
        "vision_width": width,
        "vision_patch_size": patch,
        "image_resolution": patch * grid,
    }


def _resnet_sizes(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    grid = math.isqrt(weights["visual.attnpool.positional_embedding"].shape[0] - 1)
    return {
        "vision_layers": [_count(weights, rf"visual\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)],
        "vision_width": weights["visual.layer1.0.conv1.weight"].shape[0],
        "vision_patch_size": None,
        "image_resolution": 32 * grid,
    }


def _heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise WeightsError(
            f"not the weights of a CLIP in OpenAI's layout: a width of {width} is not a multiple"
            f" of {HEAD_WIDTH}, the channels of an attention head"
        )
    return width // HEAD_WIDTH


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    """How many different numbers the names hold where ``pattern`` has its group."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _check_layout(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is not known" for name in weights if name not in expected]
    problems += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise WeightsError(
            f"not the weights of a CLIP in OpenAI's layout: {'; '.join(problems[:4])}{more}"
        )


def _own_copy(value: torch.Tensor) -> torch.Tensor:
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(dtype, copy=True)
