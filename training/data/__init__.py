"""Data sets: labelled images, in memory or on disk, split for training, validation and testing."""

from training.data.catalog import NAMES, load, load_for
from training.data.dataset import AnySplit, Dataset, Split, class_weights
from training.data.files import FileSplit

__all__ = ["NAMES", "AnySplit", "Dataset", "FileSplit", "Split", "class_weights", "load", "load_for"]
