import sys

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import clip
from clip import simple_tokenizer
from clip.simple_tokenizer import END, START, SimpleTokenizer

TEXTS = [
    "a photo of a cat.",
    "X X X X forget-me-not.",
    "A  Photo of\tan   Aircraft &amp; co",
    "naïve café — “747-400”, it's 1903",
    "",
    "犬 🐕",
]


def test_known_ids() -> None:
    """Compare with the ids that OpenAI's notebook prints for "hello world!"."""
    expected = [49406, 3306, 1002, 256, 49407]
    ids = clip.tokenize("hello world!")
    assert ids.shape == (1, 77)
    assert ids.dtype == torch.int
    assert ids[0, :5].tolist() == expected
    assert not ids[0, 5:].any()


def test_ids_equal_open_clips() -> None:
    assert torch.equal(clip.tokenize(TEXTS).long(), open_clip.tokenize(TEXTS))


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=15))
def test_any_text_equals_open_clips(text: str) -> None:
    assert torch.equal(clip.tokenize(text).long(), open_clip.tokenize(text))


def test_encode_and_decode() -> None:
    tokenizer = SimpleTokenizer()
    ids = tokenizer.encode("A photo of a forget-me-not")
    assert ids[:4] == [320, 1125, 539, 320]
    assert tokenizer.decode(ids) == "a photo of a forget - me - not "
    assert tokenizer.decode(torch.tensor(ids)) == tokenizer.decode(ids)


def test_vocabulary_attributes_have_openais_names() -> None:
    tokenizer = SimpleTokenizer()
    assert len(tokenizer.encoder) == 49408
    assert (tokenizer.encoder[START], tokenizer.encoder[END]) == (49406, 49407)
    assert tokenizer.decoder[2368] == "cat</w>"
    assert tokenizer.encode(f"{START} cat {END}") == [49406, 2368, 49407]
    assert START in tokenizer.decode([49406, 2368, 49407])
    assert END in tokenizer.decode([49406, 2368, 49407])


def test_long_texts_raise_or_are_truncated() -> None:
    long = " ".join(["cat"] * 76)
    with pytest.raises(RuntimeError, match=r"too long for context length 77.*78 tokens"):
        clip.tokenize(["dog", long])
    cut = clip.tokenize(long, truncate=True)
    assert cut[0].tolist() == [49406, *[2368] * 75, 49407]
    whole = " ".join(["cat"] * 75)
    assert torch.equal(clip.tokenize(whole), cut)


def test_context_length() -> None:
    assert clip.tokenize("a cat", context_length=5).tolist() == [[49406, 320, 2368, 49407, 0]]
    with pytest.raises(RuntimeError, match="context length 3"):
        clip.tokenize("a cat", context_length=3)


def test_tokenizing_does_not_import_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it takes seconds in every process of a sweep."""
    for name in [each for each in sys.modules if each.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    simple_tokenizer._open_clip_tokenizer.cache_clear()
    assert SimpleTokenizer().encode("a cat") == [320, 2368]
    assert "open_clip" not in sys.modules
