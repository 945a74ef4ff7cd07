"""Photographs: JPEG files of 500×375 pixels, cut out of scikit-learn's two sample pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

__all__ = ["photographs"]

SIZE = (500, 375)
QUALITY = 90


def photographs(folder: Path, count: int) -> list[Path]:
    """`count` files below a folder; existing ones are reused."""
    place = folder / "photographs"
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{index:05}.jpg" for index in range(count)]
    pictures = load_sample_images().images
    rng = np.random.default_rng(0)
    for index, path in enumerate(paths):
        picture = pictures[index % len(pictures)]
        top, left = (int(rng.integers(whole - part)) for whole, part in zip(picture.shape[:2], SIZE[::-1], strict=True))
        if not path.exists():
            Image.fromarray(picture[top : top + SIZE[1], left : left + SIZE[0]]).save(path, quality=QUALITY)
    return paths
