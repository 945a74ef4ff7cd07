"""folder:PATH: one folder a class, images of any size and format that Pillow reads."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import DataError, ImageError
from runtime.images import IMAGE_SUFFIXES, read_image
from runtime.signature import Preprocess, Signature
from training.data.dataset import Dataset, Split, divide, measure_signature

__all__ = ["load_folder"]

LARGEST_SIDE_PX = 64
NUM_PROBED = 64
VALIDATION_SHARE, TEST_SHARE = 0.15, 0.15
SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


def load_folder(path: Path, image_size: tuple[int, int] | None = None, seed: int = 0) -> Dataset:
    """A data set from `PATH/<label>/*.png`, or from `PATH/train/<label>/…`, `PATH/val/…`, `PATH/test/…`.

    Where `val` or `test` is not there, 15 % of each class of the training images is taken for it. Images are
    grey where all that were probed are, else RGB.

    Args:
        path: The folder.
        image_size: `(height, width)`; by default the commonest size among the first images, at most 64×64.
        seed: Of the split.

    Raises:
        DataError: No such folder, fewer than two classes, or an image that cannot be read (it is named).
    """
    if not path.is_dir():
        raise DataError(f"folder:{path} does not exist or is no folder.")
    roots = {
        split: next((path / name for name in names if (path / name).is_dir()), None)
        for split, names in SPLIT_FOLDERS.items()
    }
    root = roots["train"] or path
    labels = tuple(sorted(item.name for item in root.iterdir() if item.is_dir() and item.name[0] != "."))
    if len(labels) < 2:
        raise DataError(f"{root} has {len(labels)} folders in it, expected at least two: one a class.")
    size, channels = _probe(_files(root, labels), image_size)
    neutral = Signature(*size, channels, (0.0,) * channels, (1.0,) * channels, labels, Preprocess())
    train = _read(root, neutral)
    test, validation = (
        _read(found, neutral) if (found := roots[split]) and roots["train"] else None
        for split in ("test", "validation")
    )
    if test is None:
        train, test = divide(train, TEST_SHARE, 0)
    if validation is None:
        train, validation = divide(train, VALIDATION_SHARE, seed)
    return Dataset("folder", train, validation, test, measure_signature(train, labels), is_public=False)


def _files(root: Path, labels: tuple[str, ...]) -> list[tuple[Path, int]]:
    files = [
        (file, target)
        for target, label in enumerate(labels)
        for file in sorted((root / label).rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES
    ]
    empty = sorted(set(range(len(labels))) - {target for _, target in files})
    if empty:
        raise DataError(f"{root / labels[empty[0]]} holds no image; every class needs some.")
    return files


def _probe(files: list[tuple[Path, int]], image_size: tuple[int, int] | None) -> tuple[tuple[int, int], int]:
    sizes: Counter[tuple[int, int]] = Counter()
    grey = True
    for file, _ in files[:: max(1, len(files) // NUM_PROBED)]:
        try:
            with Image.open(file) as image:
                sizes[(image.height, image.width)] += 1
                grey = grey and image.mode in ("1", "L")
        except OSError as error:
            raise DataError(f"{file} cannot be read: {error}.") from error
    height, width = image_size or sizes.most_common(1)[0][0]
    if image_size is None:
        height, width = min(height, LARGEST_SIDE_PX), min(width, LARGEST_SIDE_PX)
    return (height, width), 1 if grey else 3


def _read(root: Path, signature: Signature) -> Split:
    files = _files(root, signature.labels)

    def read(item: tuple[Path, int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        try:
            return read_image(item[0], signature)
        except ImageError as error:
            raise DataError(f"{item[0]} {error}; remove it, or convert it again.") from error

    with ThreadPoolExecutor() as pool:
        images = np.stack(list(pool.map(read, files)))
    return Split(images, np.array([target for _, target in files], np.int64))
