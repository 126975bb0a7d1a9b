"""CLIP's byte-pair encoding: open_clip's tokenizer behind the interface of OpenAI's."""

import functools
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

START, END = "<|startoftext|>", "<|endoftext|>"  # OpenAI's names of ids 49406 and 49407
_OPEN_CLIP_NAMES = {"<start_of_text>": START, "<end_of_text>": END}


class SimpleTokenizer:
    """Convert text to token ids and back, without the start and end tokens.

    The vocabulary is read at first use and shared by all instances.
    """

    @property
    def encoder(self) -> dict[str, int]:
        """The vocabulary: token -> id."""
        return _vocabulary()[0]

    @property
    def decoder(self) -> dict[int, str]:
        """The vocabulary: id -> token; ``</w>`` ends a word."""
        return _vocabulary()[1]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, which is cleaned and lower-cased first."""
        for theirs, openai in _OPEN_CLIP_NAMES.items():
            text = text.replace(openai, theirs)
        return _open_clip_tokenizer().encode(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of these ids, with a space after every word."""
        text = _open_clip_tokenizer().decode([int(token) for token in tokens])
        for theirs, openai in _OPEN_CLIP_NAMES.items():
            text = text.replace(theirs, openai)
        return text


@functools.cache
def _vocabulary() -> tuple[dict[str, int], dict[int, str]]:
    theirs: dict[str, int] = _open_clip_tokenizer().encoder
    encoder = {_OPEN_CLIP_NAMES.get(token, token): index for token, index in theirs.items()}
    return encoder, {index: token for token, index in encoder.items()}


@functools.cache
def _open_clip_tokenizer() -> Any:
    """Build open_clip's tokenizer without importing its package, which takes seconds."""
    name = "open_clip.tokenizer"
    if name in sys.modules:
        return sys.modules[name].SimpleTokenizer()
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ImportError("open_clip is not installed: pip install open_clip_torch")
    file = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()
