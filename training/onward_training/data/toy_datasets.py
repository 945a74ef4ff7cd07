"""Toy data sets, which need no download.

digits: the 1,797 handwritten digits of 8×8 pixels in scikit-learn's wheel.
Source: scikit-learn, `sklearn.datasets.load_digits`; UCI "Optical Recognition of Handwritten Digits".

fake: random images, with a faint pattern per class under noise. For tests and experiments.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from onward_training.data.dataset import Dataset, measure_signature
from onward_training.data.split import Split, divide

__all__ = ["load_digits", "load_fake"]

#: The highest grey level of `digits`.
MAX_LEVEL = 16
#: Of `fake`.
NUM_CLASSES = 4
SIDE_PX = 28


def load_digits(seed: int = 0) -> Dataset:
    """64 % for training, 16 % for validation, 20 % for testing; the 17 grey levels are scaled to 0 to 255."""
    rows = np.loadtxt(_find(), delimiter=",", dtype=np.int64)
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8, 1) * (255 / MAX_LEVEL)).astype(np.uint8)
    rest, test = divide(Split(images, rows[:, -1]), 0.2)
    train, validation = divide(rest, 0.2, seed)
    labels = tuple(map(str, range(10)))
    rule = f"20 % of each class for testing, 20 % of the rest for validation, drawn with seed {seed}"
    signature = measure_signature(train, labels)
    return Dataset("digits", train, validation, test, signature, is_public=True, split_rule=rule)


def _find() -> Path:
    # reading the file takes ten milliseconds, importing scikit-learn two seconds
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError("scikit-learn is not installed", name="sklearn")
    return Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")


def load_fake(image_size: tuple[int, int] | None = None, channels: int = 1, seed: int = 0) -> Dataset:
    """512 training, 128 validation and 128 test images of 4 classes, by default 28×28."""
    height, width = image_size or (SIDE_PX, SIDE_PX)
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 256, (NUM_CLASSES, height, width, channels))

    def make(count: int) -> Split:
        targets = generator.integers(0, NUM_CLASSES, count)
        noise = generator.integers(0, 256, (count, height, width, channels))
        return Split(((patterns[targets] + 2 * noise) // 3).astype(np.uint8), targets.astype(np.int64))

    train, validation, test = make(512), make(128), make(128)
    labels = tuple(f"pattern {index}" for index in range(NUM_CLASSES))
    rule = f"all drawn with seed {seed}"
    return Dataset("fake", train, validation, test, measure_signature(train, labels), is_public=True, split_rule=rule)
