"""Data sets: labelled images for training, validation and testing. `--data` names one:

digits, fake           toy_datasets.py   scikit-learn's handwritten digits; random images for tests
mnist, fashion-mnist   idx_files.py      found on the machine or downloaded
folder:PATH            folder.py         one folder per class
"""

from onward_training.data.catalog import NAMES, check, load, load_for
from onward_training.data.dataset import Dataset, class_weights
from onward_training.data.split import AnySplit, FileSplit, Split

__all__ = ["NAMES", "AnySplit", "Dataset", "FileSplit", "Split", "check", "class_weights", "load", "load_for"]
