"""A toy CLIP with OpenAI's structure and names: a vision transformer and a text transformer."""

from collections import OrderedDict

import torch
from torch import nn

WIDTH, LAYERS, DIM, PATCH, SIZE = 64, 3, 32, 8, 32


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


class ResidualAttentionBlock(nn.Module):
    def __init__(self, d_model, n_head, attn_mask=None):
        super().__init__()
        self.attn = nn.MultiheadAttention(d_model, n_head)
        self.ln_1 = LayerNorm(d_model)
        layers = OrderedDict(c_fc=nn.Linear(d_model, 4 * d_model), gelu=QuickGELU())
        layers["c_proj"] = nn.Linear(4 * d_model, d_model)
        self.mlp = nn.Sequential(layers)
        self.ln_2 = LayerNorm(d_model)
        self.attn_mask = attn_mask

    def forward(self, x):  # (L, N, D)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, layers, heads, attn_mask=None):
        super().__init__()
        self.width, self.layers = width, layers
        blocks = [ResidualAttentionBlock(width, heads, attn_mask) for _ in range(layers)]
        self.resblocks = nn.Sequential(*blocks)

    def forward(self, x):
        return self.resblocks(x)


class VisionTransformer(nn.Module):
    def __init__(self, input_resolution, patch_size, width, layers, heads, output_dim):
        super().__init__()
        self.input_resolution, self.output_dim = input_resolution, output_dim
        self.conv1 = nn.Conv2d(3, width, patch_size, patch_size, bias=False)
        patches = (input_resolution // patch_size) ** 2
        self.class_embedding = nn.Parameter(0.1 * torch.randn(width))
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(patches + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(0.1 * torch.randn(width, output_dim))

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        x = self.ln_pre(x + self.positional_embedding).permute(1, 0, 2)
        return self.ln_post(self.transformer(x)[0]) @ self.proj


class CLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.context_length = 77
        self.visual = VisionTransformer(SIZE, PATCH, WIDTH, LAYERS, 1, DIM)
        mask = torch.full((77, 77), -torch.inf).triu(1)
        self.transformer = Transformer(WIDTH, LAYERS, 1, mask)
        self.token_embedding = nn.Embedding(49408, WIDTH)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(77, WIDTH))
        self.ln_final = LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(0.1 * torch.randn(WIDTH, DIM))
        self.logit_scale = nn.Parameter(torch.tensor(3.0))

    @property
    def dtype(self):
        return self.visual.conv1.weight.dtype

    def encode_image(self, image):
        return self.visual(image.type(self.dtype))

    def encode_text(self, text):
        x = self.token_embedding(text) + self.positional_embedding
        x = self.ln_final(self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
        return x[torch.arange(len(x)), text.argmax(dim=-1)] @ self.text_projection


def convert_weights(model):
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.half()


def build_model(state_dict):
    return CLIP().eval()
