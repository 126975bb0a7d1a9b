"""SimpleTokenizer with OpenAI's two methods, based on open_clip's."""

from open_clip.tokenizer import SimpleTokenizer as OpenCLIPTokenizer


class SimpleTokenizer:
    def __init__(self):
        self._tokenizer = OpenCLIPTokenizer()

    def encode(self, text):
        return self._tokenizer.encode(text)

    def decode(self, tokens):
        return self._tokenizer.decode(tokens)
