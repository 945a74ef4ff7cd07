"""Embedding: writes a bundle as a small app, made to be read and changed, that verifies itself where it runs."""

from onward.embedding.browser_runtime import BrowserRuntime
from onward.embedding.embed import TARGETS, Embedding, EmbedKeywords, EmbedOptions, Target, embed

__all__ = ["TARGETS", "BrowserRuntime", "EmbedKeywords", "EmbedOptions", "Embedding", "Target", "embed"]
