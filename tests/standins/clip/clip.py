"""available_models, load and tokenize."""

import torch
from torchvision.transforms import Compose, Normalize, ToTensor

from .model import build_model
from .simple_tokenizer import SimpleTokenizer as _Tokenizer

__all__ = ["available_models", "load", "tokenize"]
_MODELS = {"toy": ""}
_tokenizer = _Tokenizer()


def available_models():
    return list(_MODELS)


def load(name, device="cpu", jit=False, download_root=None):
    """Return a model with random weights, in float32 like OpenAI's on the CPU."""
    torch.manual_seed(0)
    model = build_model({}).to(device).float()
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    return model, Compose([ToTensor(), Normalize(mean, std)])


def tokenize(texts, context_length=77, truncate=False):
    texts = [texts] if isinstance(texts, str) else texts
    result = torch.zeros(len(texts), context_length, dtype=torch.int)
    for row, text in zip(result, texts, strict=True):
        ids = [49406, *_tokenizer.encode(text), 49407]
        if len(ids) > context_length:
            raise RuntimeError(f"Input {text} is too long for context length {context_length}")
        row[: len(ids)] = torch.tensor(ids)
    return result
