"""Sources: files of any kind become blocks of inputs, in order. They know no model and no sink."""

from onward.sources.opening import open_sources
from onward.sources.source import Block, Images, Item, Pixels, Source, Unreadable

__all__ = ["Block", "Images", "Item", "Pixels", "Source", "Unreadable", "open_sources"]
