"""Sources: files of any kind become blocks of inputs, in order. They know no model and no sink."""

from onward.sources.block import Block, Images, Input, Pixels, Unreadable
from onward.sources.opening import open_sources
from onward.sources.source import Source

__all__ = ["Block", "Images", "Input", "Pixels", "Source", "Unreadable", "open_sources"]
