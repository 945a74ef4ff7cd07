"""Sources: files of any kind become blocks of images, in order. They know nothing of models and sinks."""

from onward.sources.opening import open_sources
from onward.sources.source import Block, Images, Item, Pixels, Source, unreadable

__all__ = ["Block", "Images", "Item", "Pixels", "Source", "open_sources", "unreadable"]
