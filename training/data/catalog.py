"""Catalog: what `--data` may name."""

from __future__ import annotations

from pathlib import Path

from runtime.errors import DataError, UsageError
from training.data.dataset import Dataset

__all__ = ["NAMES", "load"]

NAMES = ("digits", "fashion-mnist", "mnist", "folder:PATH", "fake")


def load(
    name: str, *, data_dir: Path | None = None, image_size: tuple[int, int] | None = None, seed: int = 0
) -> Dataset:
    """Load a data set by name.

    Args:
        name: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Where the IDX files of `mnist` and `fashion-mnist` are, if not in the usual places.
        image_size: `(height, width)`, for `folder` and `fake` only.
        seed: Of the split into training and validation images.

    Raises:
        DataError: No such data set, or it cannot be read.
        UsageError: `image_size` for a data set that has its own.
    """
    kind, _, path = name.partition(":")
    if image_size is not None and kind not in ("folder", "fake"):
        raise UsageError(f"{name} has an image size of its own; --image-size is for folder:PATH and fake.")
    match kind:
        case "digits":
            from training.data.digits import load_digits

            return load_digits(seed)
        case "fashion-mnist" | "mnist":
            from training.data.idx_files import load_idx_files

            return load_idx_files(kind, data_dir, seed)
        case "folder" if path:
            from training.data.folder import load_folder

            return load_folder(Path(path), image_size, seed)
        case "fake":
            from training.data.fake import load_fake

            return load_fake(image_size, seed=seed)
        case _:
            raise DataError(f"data set {name!r} is unknown; there are {', '.join(NAMES)}.")
