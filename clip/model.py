"""CLIP with OpenAI's module names, so that OpenAI's weights and code written for them work.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(https://arxiv.org/abs/2103.00020). Transformers take and return LND: sequence, batch, width.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .errors import ChangedClipError, WeightsError

HEAD_WIDTH = 64  # channels per attention head in all of OpenAI's models
MAX_WIDTH = 1024  # of OpenAI's encoders; wider ones have heads of 80 channels and more

# Sizes that OpenAI's archives store among the weights; they follow from the tensors' shapes.
SIZE_ENTRIES = ("input_resolution", "context_length", "vocab_size")
# What the shapes do not determine; in the files of clip._download for names that are not OpenAI's.
OPTION_ENTRIES = ("quick_gelu", "heads")

_LAYOUT = "not the weights of a CLIP in OpenAI's layout"


class LayerNorm(nn.LayerNorm):
    """Layer normalization computed in float32 (or wider) and returned in the input's dtype."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        normed = F.layer_norm(
            x.to(dtype), self.normalized_shape, self.weight.to(dtype), self.bias.to(dtype), self.eps
        )
        return normed.to(x.dtype)


class QuickGELU(nn.Module):
    """x sigmoid(1.702 x), the approximation of GELU that OpenAI's weights were trained with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """Pre-norm self-attention and MLP, each with a residual connection.

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
        c_fc, c_proj = nn.Linear(d_model, d_model * 4), nn.Linear(d_model * 4, d_model)
        self.mlp = nn.Sequential(OrderedDict(c_fc=c_fc, gelu=activation(), c_proj=c_proj))
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
    """Image encoder that projects the final state of the CLS token to ``output_dim``."""

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


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a residual connection; a stride is an average pool."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        outplanes = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outplanes, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outplanes)
        self.downsample: nn.Module | None = None
        if stride > 1 or inplanes != outplanes:
            # OpenAI's weights name the convolution 0; the pool has no weights.
            shortcut: dict[str, nn.Module] = {
                "-1": nn.AvgPool2d(stride),
                "0": nn.Conv2d(inplanes, outplanes, kernel_size=1, bias=False),
                "1": nn.BatchNorm2d(outplanes),
            }
            self.downsample = nn.Sequential(OrderedDict(shortcut))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inplanes, H, W) -> (B, 4 planes, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.bn3(self.conv3(self.avgpool(x)))
        return F.relu(x + shortcut)


class AttentionPool2d(nn.Module):
    """Attention pooling of a feature map; the query is the mean of the map."""

    def __init__(self, spacial_dim: int, embed_dim: int, num_heads: int, output_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(
            torch.randn(spacial_dim**2 + 1, embed_dim) / embed_dim**0.5
        )
        self.k_proj = nn.Linear(embed_dim, embed_dim)
        self.q_proj = nn.Linear(embed_dim, embed_dim)
        self.v_proj = nn.Linear(embed_dim, embed_dim)
        self.c_proj = nn.Linear(embed_dim, output_dim)
        self.num_heads = num_heads

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, embed_dim, H, W) -> (B, output_dim)."""
        x = x.flatten(start_dim=2).transpose(1, 2)  # (B, H W, embed_dim)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = x + self.positional_embedding.to(x.dtype)
        query, key, value = (
            tokens.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, tokens, width)
            for tokens in (self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x))
        )
        pooled = F.scaled_dot_product_attention(query, key, value)
        return self.c_proj(pooled.flatten(start_dim=1))


class ModifiedResNet(nn.Module):
    """Image encoder of RN50, RN101 and RN50x4 to x64 (section 2.4 of the paper).

    ``layers`` are the numbers of blocks of the four stages; ``width`` is that of the first stage.
    """

    def __init__(
        self,
        layers: Sequence[int],
        output_dim: int,
        heads: int,
        input_resolution: int = 224,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.output_dim = output_dim
        self.input_resolution = input_resolution
        self.conv1 = nn.Conv2d(3, width // 2, kernel_size=3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, kernel_size=3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, layers[0])
        self.layer2 = _stage(width * 4, width * 2, layers[1], stride=2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], stride=2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], stride=2)
        self.attnpool = AttentionPool2d(input_resolution // 32, width * 32, heads, output_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) -> features (B, output_dim)."""
        x = F.relu(self.bn1(self.conv1(x.to(self.conv1.weight.dtype))))
        x = F.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(F.relu(self.bn3(self.conv3(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.attnpool(x)

    def initialize_parameters(self) -> None:
        """Initialize attention pooling; each block starts as its residual connection."""
        pool = self.attnpool
        for projection in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
            nn.init.normal_(projection.weight, std=pool.c_proj.in_features**-0.5)
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)


def _stage(inplanes: int, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
    first = Bottleneck(inplanes, planes, stride)
    rest = [Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


class CLIP(nn.Module):
    """Image encoder ``visual`` and text encoder with a joint embedding space of ``embed_dim``.

    ``vision_layers`` is an integer for a vision transformer and four integers for a ResNet, for
    which ``vision_patch_size`` is None. ``vision_heads`` is by default one for each 64 channels.
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
        vision_heads: int | None = None,
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
                heads=vision_heads or vision_width // HEAD_WIDTH,
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
        mask = self.build_attention_mask()
        self.transformer = Transformer(
            transformer_width, transformer_layers, transformer_heads, mask, activation
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.initialize_parameters()

    def initialize_parameters(self) -> None:
        """Initialize the weights for training from scratch, as in the paper."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        width = self.transformer.width
        nn.init.normal_(self.text_projection, std=width**-0.5)
        residual = 2 * self.transformer.layers  # residual connections
        deviations = {
            "attn.in_proj_weight": width**-0.5,
            "attn.out_proj.weight": (width * residual) ** -0.5,
            "mlp.c_fc.weight": (2 * width) ** -0.5,
            "mlp.c_proj.weight": (width * residual) ** -0.5,
        }
        for block in self.transformer.resblocks:
            for name, std in deviations.items():
                nn.init.normal_(block.get_parameter(name), std=std)
        if isinstance(self.visual, ModifiedResNet):
            self.visual.initialize_parameters()

    def build_attention_mask(self) -> torch.Tensor:
        """Return the causal mask (context_length, context_length): -inf above the diagonal."""
        size = (self.context_length, self.context_length)
        # On the CPU explicitly, since build_model constructs the model on the meta device.
        return torch.full(size, float("-inf"), device="cpu").triu_(1)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Return features (B, embed_dim), not normalized, of images (B, 3, H, W)."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: torch.Tensor) -> torch.Tensor:
        """Return features (N, embed_dim), not normalized, of token ids (N, context_length)."""
        x = self.token_embedding(text).to(self.dtype)
        x = x + self.positional_embedding.to(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).to(self.dtype)
        # The features are taken at the end-of-text token, which has the largest id.
        eot = text.argmax(dim=-1)
        return x[torch.arange(x.shape[0], device=x.device), eot] @ self.text_projection

    def forward(self, image: torch.Tensor, text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, N), the scaled cosine similarities, and their transpose (N, B)."""
        image_features = F.normalize(self.encode_image(image), dim=-1)
        text_features = F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * image_features @ text_features.t()
        return logits, logits.t()


def convert_weights(model: nn.Module) -> None:
    """Convert convolutions, linear layers, attentions and projections to fp16 in place.

    Norms and embeddings are unchanged, as in OpenAI's models.
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
    state_dict: Mapping[str, torch.Tensor],
    *changed: Any,
    quick_gelu: bool | None = None,
    fp16: bool = True,
    heads: tuple[int, int] | None = None,
) -> CLIP:
    """Build a CLIP in eval mode from a copy of its weights, which determine all sizes.

    Args:
        changed: must be empty; the build_model of some trainers' repositories takes more.
        quick_gelu: QuickGELU, as OpenAI's weights need, or GELU, as some of open_clip's do; None:
            QuickGELU, unless an entry "quick_gelu" of the weights (`OPTION_ENTRIES`) is False.
        fp16: apply :func:`convert_weights`; otherwise the model is in float32.
        heads: attention heads of the image and of the text encoder; None is one for each 64
            channels, which is known to be true up to a width of 1024, unless the weights have an
            entry "heads".

    Raises:
        WeightsError: the tensors are not those of a CLIP in OpenAI's layout, or have values that
            are not finite.
        ChangedClipError: there are more arguments.
    """
    if changed:
        raise ChangedClipError(
            f"build_model takes the weights alone, but got {len(changed)} more positional arguments"
        )
    if quick_gelu is None:
        quick_gelu = bool(state_dict.get("quick_gelu", True))
    if heads is None and "heads" in state_dict:
        vision, text = state_dict["heads"].tolist()
        heads = int(vision), int(text)
    ignored = (*SIZE_ENTRIES, *OPTION_ENTRIES)
    weights = {name: value for name, value in state_dict.items() if name not in ignored}
    sizes = infer_sizes(weights, heads)
    # On the meta device no random numbers are drawn for values that would be overwritten.
    with torch.device("meta"):
        model = CLIP(**sizes, activation=QuickGELU if quick_gelu else nn.GELU)
    _check_layout(weights, model.state_dict())
    _check_values(weights)
    copies = {name: value.detach().clone() for name, value in weights.items()}
    model.load_state_dict(copies, assign=True)
    model.float()
    if fp16:
        convert_weights(model)
    return model.eval()


def infer_sizes(
    weights: Mapping[str, torch.Tensor], heads: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Return the arguments of :class:`CLIP` that match the shapes of these weights.

    ``heads`` are those of :func:`build_model`.
    """
    vision_heads, text_heads = heads or (None, None)
    try:
        vision = (
            _vit_sizes(weights, vision_heads)
            if "visual.proj" in weights
            else _resnet_sizes(weights)
        )
        (transformer_width,) = _shape(weights, "ln_final.weight", 1)
        return {
            **vision,
            "embed_dim": _shape(weights, "text_projection", 2)[1],
            "context_length": _shape(weights, "positional_embedding", 2)[0],
            "vocab_size": _shape(weights, "token_embedding.weight", 2)[0],
            "transformer_width": transformer_width,
            "transformer_heads": _heads(transformer_width, "text", text_heads),
            "transformer_layers": _count(weights, r"transformer\.resblocks\.(\d+)\."),
        }
    except KeyError as error:
        some = ", ".join(list(weights)[:5]) or "nothing"
        raise WeightsError(
            f"{_LAYOUT}: there is no {error} among the {len(weights)} names ({some}, ...)"
        ) from error


def _vit_sizes(weights: Mapping[str, torch.Tensor], heads: int | None) -> dict[str, Any]:
    width, _, _, patch = _shape(weights, "visual.conv1.weight", 4)
    grid = _grid(weights, "visual.positional_embedding")
    checked = _heads(width, "image", heads)
    return {
        "vision_layers": _count(weights, r"visual\.transformer\.resblocks\.(\d+)\."),
        "vision_width": width,
        "vision_patch_size": patch,
        "image_resolution": patch * grid,
        **({} if heads is None else {"vision_heads": checked}),
    }


def _resnet_sizes(weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    grid = _grid(weights, "visual.attnpool.positional_embedding")
    width = _shape(weights, "visual.layer1.0.conv1.weight", 4)[0]
    if width % 2:
        raise WeightsError(f"{_LAYOUT}: visual.layer1.0.conv1.weight has an odd width, {width}")
    return {
        "vision_layers": [_count(weights, rf"visual\.layer{i}\.(\d+)\.") for i in (1, 2, 3, 4)],
        "vision_width": width,
        "vision_patch_size": None,
        "image_resolution": 32 * grid,
    }


def _shape(weights: Mapping[str, torch.Tensor], name: str, dims: int) -> torch.Size:
    """Return the shape of a tensor that must have ``dims`` dimensions, none of them empty."""
    shape = weights[name].shape
    if len(shape) != dims or not all(shape):
        raise WeightsError(f"{_LAYOUT}: {name} is {tuple(shape)}, but must have {dims} dimensions")
    return shape


def _grid(weights: Mapping[str, torch.Tensor], name: str) -> int:
    """Return the patches along an edge of a square image from one position each, and CLS."""
    positions = _shape(weights, name, 2)[0]
    grid = math.isqrt(positions - 1)
    if not grid or grid * grid + 1 != positions:
        raise WeightsError(
            f"{_LAYOUT}: {name} has {positions} positions, which is not one more than a square: "
            "only square images are supported"
        )
    return grid


def _heads(width: int, encoder: str, heads: int | None) -> int:
    """Return the given number of heads, or the one that a width up to `MAX_WIDTH` implies."""
    if heads is not None:
        if width % heads:
            raise WeightsError(f"{heads} heads do not divide the {encoder} encoder's width {width}")
        return heads
    if width % HEAD_WIDTH:
        raise WeightsError(
            f"{_LAYOUT}: a width of {width} is not a multiple of {HEAD_WIDTH}, the channels per "
            "attention head"
        )
    if width > MAX_WIDTH:
        raise WeightsError(
            f"the {encoder} encoder has a width of {width}, for which the tensors do not determine "
            "the number of attention heads: name the architecture with the file, such as "
            "ViT-H-14:PATH"
        )
    return width // HEAD_WIDTH


def _count(weights: Mapping[str, torch.Tensor], pattern: str) -> int:
    """Count the distinct numbers that the group of ``pattern`` matches in the names."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _check_layout(
    weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is unknown" for name in weights if name not in expected]
    problems += [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise WeightsError(f"{_LAYOUT}: {'; '.join(problems[:4])}{more}")


def _check_values(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise a WeightsError that names the first tensor with wrong or non-finite numbers."""
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):  # the only whole number in a CLIP
            continue
        if not value.is_floating_point():
            raise WeightsError(f"{name} has the type {value.dtype}, but must have floating point")
        low, high = value.detach().float().aminmax()  # NaN if any value is
        if not (math.isfinite(low) and math.isfinite(high)):
            raise WeightsError(
                f"{name} has values that are not finite: the file is damaged, or its training "
                "diverged; choose other weights"
            )
