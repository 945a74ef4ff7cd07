"""Data sets: labelled images, in memory or on disk, split for training, validation and testing."""

from onward_training.data.catalog import NAMES, load, load_for
from onward_training.data.dataset import AnySplit, Dataset, Split, class_weights
from onward_training.data.files import FileSplit

__all__ = ["NAMES", "AnySplit", "Dataset", "FileSplit", "Split", "class_weights", "load", "load_for"]
