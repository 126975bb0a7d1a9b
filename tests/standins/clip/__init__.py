"""Stand-in for OpenAI's clip."""

from .clip import *  # noqa: F403
