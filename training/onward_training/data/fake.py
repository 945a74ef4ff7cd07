"""fake: images made on the spot, a faint pattern a class under noise. For tests and for trying things out."""

from __future__ import annotations

import numpy as np

from onward_training.data.dataset import Dataset, Split, measure_signature

__all__ = ["load_fake"]

NUM_CLASSES = 4
SIDE_PX = 28


def load_fake(image_size: tuple[int, int] | None = None, channels: int = 1, seed: int = 0) -> Dataset:
    """512 training, 128 validation and 128 test images of 4 classes, 28×28 unless told."""
    height, width = image_size or (SIDE_PX, SIDE_PX)
    generator = np.random.default_rng(seed)
    patterns = generator.integers(0, 256, (NUM_CLASSES, height, width, channels))

    def make(count: int) -> Split:
        targets = generator.integers(0, NUM_CLASSES, count)
        noise = generator.integers(0, 256, (count, height, width, channels))
        return Split(((patterns[targets] + 2 * noise) // 3).astype(np.uint8), targets.astype(np.int64))

    train, validation, test = make(512), make(128), make(128)
    labels = tuple(f"pattern {index}" for index in range(NUM_CLASSES))
    return Dataset("fake", train, validation, test, measure_signature(train, labels), is_public=True)
