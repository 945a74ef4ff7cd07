"""digits: scikit-learn's 1,797 handwritten digits, 8×8 pixels, in its wheel.

Source: scikit-learn, `sklearn.datasets.load_digits`; UCI "Optical Recognition of Handwritten Digits".
"""

from __future__ import annotations

import numpy as np

from training.data.dataset import Dataset, Split, divide, measure_signature

__all__ = ["load_digits"]

MAX_LEVEL = 16


def load_digits(seed: int = 0) -> Dataset:
    """64 % for training, 16 % for validation, 20 % for testing; the 17 grey levels are spread over 0 to 255."""
    from sklearn.datasets import load_digits as load

    bunch = load()
    images = np.rint(bunch.images * (255 / MAX_LEVEL)).astype(np.uint8)[..., None]
    rest, test = divide(Split(images, bunch.target.astype(np.int64)), 0.2)
    train, validation = divide(rest, 0.2, seed)
    labels = tuple(str(name) for name in bunch.target_names)
    return Dataset("digits", train, validation, test, measure_signature(train, labels), is_public=True)
