"""Write a CLIP's weights as transformers' CLIPModel does.

The names follow the modules of transformers/models/clip/modeling_clip.py, not clip/layouts.py.
"""

from typing import Any

import torch

State = dict[str, torch.Tensor]


def as_hugging_face(weights: State) -> State:
    """Return weights (OpenAI's names, vision transformer) by the names of CLIPModel."""
    vision = _encoder(weights, "visual.transformer.resblocks.", "vision_model")
    embeddings = "vision_model.embeddings"
    vision |= {
        f"{embeddings}.class_embedding": weights["visual.class_embedding"],
        f"{embeddings}.patch_embedding.weight": weights["visual.conv1.weight"],
        f"{embeddings}.position_embedding.weight": weights["visual.positional_embedding"],
        "vision_model.pre_layrnorm.weight": weights["visual.ln_pre.weight"],
        "vision_model.pre_layrnorm.bias": weights["visual.ln_pre.bias"],
        "vision_model.post_layernorm.weight": weights["visual.ln_post.weight"],
        "vision_model.post_layernorm.bias": weights["visual.ln_post.bias"],
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
    }
    text = _encoder(weights, "transformer.resblocks.", "text_model")
    text |= {
        "text_model.embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": weights["positional_embedding"],
        "text_model.final_layer_norm.weight": weights["ln_final.weight"],
        "text_model.final_layer_norm.bias": weights["ln_final.bias"],
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    return {**vision, **text, "logit_scale": weights["logit_scale"]}


def _encoder(weights: State, prefix: str, tower: str) -> State:
    numbers = sorted({key.split(".")[-1 + len(prefix.split("."))]
                      for key in weights if key.startswith(prefix)})  # fmt: skip
    state = {}
    for number in numbers:
        old, new = f"{prefix}{number}", f"{tower}.encoder.layers.{number}"
        for kind in ("weight", "bias"):
            query, key, value = weights[f"{old}.attn.in_proj_{kind}"].chunk(3)
            state[f"{new}.self_attn.q_proj.{kind}"] = query.clone()
            state[f"{new}.self_attn.k_proj.{kind}"] = key.clone()
            state[f"{new}.self_attn.v_proj.{kind}"] = value.clone()
            state[f"{new}.self_attn.out_proj.{kind}"] = weights[f"{old}.attn.out_proj.{kind}"]
            state[f"{new}.layer_norm1.{kind}"] = weights[f"{old}.ln_1.{kind}"]
            state[f"{new}.layer_norm2.{kind}"] = weights[f"{old}.ln_2.{kind}"]
            state[f"{new}.mlp.fc1.{kind}"] = weights[f"{old}.mlp.c_fc.{kind}"]
            state[f"{new}.mlp.fc2.{kind}"] = weights[f"{old}.mlp.c_proj.{kind}"]
    return state


def config(
    projection_dim: int = 32, activation: str = "quick_gelu", heads: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    """Return what config.json states of a model with ``heads`` of the image and text encoder."""
    vision, text = heads
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": projection_dim,
        "text_config": {"hidden_act": activation, "num_attention_heads": text},
        "vision_config": {"hidden_act": activation, "num_attention_heads": vision},
    }
