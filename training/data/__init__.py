"""Data sets: images and labels in memory, as uint8, split for training, validation and testing."""

from training.data.catalog import NAMES, load
from training.data.dataset import Dataset, Split

__all__ = ["NAMES", "Dataset", "Split", "load"]
