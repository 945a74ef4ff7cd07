"""Embed: a bundle becomes a small app that is meant to be read and kept, and that verifies itself where it runs.

Knows how apps are put together, and runs no model: the apps do, with what their README names.
"""

from onward.embedding.browser_runtime import BrowserRuntime
from onward.embedding.embed import TARGETS, Embedding, EmbedOptions, Target, embed

__all__ = ["TARGETS", "BrowserRuntime", "EmbedOptions", "Embedding", "Target", "embed"]
