"""mnist and fashion-mnist: IDX files, found on this machine or downloaded.

They are looked for in this order: `--data-dir`; `$ONWARD_DATA`; the system's shared data folder,
`share/datasets/<name>` (Debian's dataset-fashion-mnist); the user's cache; then torchvision downloads them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onward.errors import DataError, reason_of
from onward.images.idx import read_idx
from onward_training.data.dataset import Dataset, measure_signature
from onward_training.data.split import Split, divide

__all__ = ["FASHION_LABELS", "find_folder", "load_idx_files"]

FASHION_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGIT_LABELS = tuple(map(str, range(10)))
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
VALIDATION_SHARE = 0.1
TORCHVISION_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}


def load_idx_files(name: str, data_dir: Path | None = None, seed: int = 0) -> Dataset:
    """`mnist` or `fashion-mnist`; a tenth of the training images is used for validation.

    Raises:
        DataError: The files are not found and cannot be downloaded, or are damaged.
    """
    folder = find_folder(name, data_dir) or _download(name)
    rest, test = _read(folder, "train"), _read(folder, "test")
    train, validation = divide(rest, VALIDATION_SHARE, seed)
    labels = FASHION_LABELS if name == "fashion-mnist" else DIGIT_LABELS
    share = f"{100 * VALIDATION_SHARE:.0f} %"
    rule = f"test images as published, {share} of the others for validation, drawn with seed {seed}"
    signature = measure_signature(train, labels)
    return Dataset(name, train, validation, test, signature, is_public=True, split_rule=rule)


def find_folder(name: str, data_dir: Path | None = None) -> Path | None:
    """The first folder that holds all four files; with `data_dir`, only that one is searched.

    Raises:
        DataError: `data_dir` does not hold them.
    """
    for folder in _places(name, data_dir):
        if all(_find(folder, stem) for stems in FILES.values() for stem in stems):
            return folder
    if data_dir is not None:
        stems = ", ".join(stem for stems in FILES.values() for stem in stems)
        raise DataError(f"{data_dir} does not hold {name}: expected {stems}, each plain or .gz.")
    return None


def _places(name: str, data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        yield from (data_dir, data_dir / name)
        return
    if configured := os.environ.get("ONWARD_DATA"):
        yield Path(configured) / name
    for prefix in dict.fromkeys((sys.prefix, sys.base_prefix, "/usr", "/usr/local")):
        yield Path(prefix, "share", "datasets", name)
    yield _cache() / TORCHVISION_NAMES[name] / "raw"


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onward"


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def _read(folder: Path, split: str) -> Split:
    images_path, targets_path = (_find(folder, stem) for stem in FILES[split])
    assert images_path is not None  # find_folder checked it
    assert targets_path is not None
    images, targets = read_idx(images_path), read_idx(targets_path)
    if images.ndim != 3 or targets.ndim != 1 or len(images) != len(targets):
        raise DataError(
            f"{images_path} has shape {images.shape} and {targets_path.name} {targets.shape}, expected "
            f"(count, height, width) and (count,)."
        )
    return Split(images[..., None], targets.astype(np.int64))


def _download(name: str) -> Path:
    from torchvision import datasets

    folder = _cache()
    print(f"{name} is not on this machine: downloading it to {folder}", file=sys.stderr)
    kind = getattr(datasets, TORCHVISION_NAMES[name])
    try:
        for train in (True, False):
            kind(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:
        remedy = "`apt-get install dataset-fashion-mnist`, or " if name == "fashion-mnist" else ""
        reason = reason_of(error).rstrip(":")
        raise DataError(
            f"{name} is not on this machine and could not be downloaded ({reason}): {remedy}put its four IDX files "
            f"into a folder and name it with --data-dir."
        ) from error
    return folder / TORCHVISION_NAMES[name] / "raw"
