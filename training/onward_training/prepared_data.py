"""Prepared data: a data set whose images become the input of a network as is stated, or as is known of its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onward_training.data import Dataset, load
from onward_training.preprocessing import StatedPreprocessing

__all__ = ["is_folder", "load_prepared"]


def is_folder(data: str) -> bool:
    """Whether a data set is a folder, whose images come in any size."""
    return data.partition(":")[0] == "folder"


def load_prepared(
    data: str,
    data_dir: Path | None,
    chosen: StatedPreprocessing,
    *,
    seed: int = 0,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """Load a data set. Its mean and standard deviation are those that are chosen, else those of its training images.

    Args:
        data: Name of the data set.
        data_dir: Folder with its files.
        chosen: What is stated or known; images of one size keep it.
        seed: Of the split into training and validation images.
        classes: Of the model that is evaluated, which a folder may lack.

    Raises:
        DataError: The data set cannot be read.
    """
    has_size = not is_folder(data) and data != "fake"  # `fake` makes images of any size
    dataset = load(
        data,
        data_dir=data_dir,
        image_size=None if has_size else chosen.image_size,
        channels=None if has_size else chosen.channels,
        preprocess=chosen.rule() if is_folder(data) else None,
        seed=seed,
        classes=classes,
    )
    return replace(dataset, signature=chosen.on(dataset.signature))
