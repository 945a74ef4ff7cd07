"""Catalog: what `--data` may name."""

from __future__ import annotations

from pathlib import Path

from onward.errors import DataError, UsageError
from onward.signature import Preprocess, Signature
from onward_training.data.dataset import Dataset

__all__ = ["NAMES", "load", "load_for"]

NAMES = ("digits", "fashion-mnist", "mnist", "folder:PATH", "fake")


def load(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    streaming: bool | None = None,
    preprocess: Preprocess | None = None,
    like: Signature | None = None,
) -> Dataset:
    """Load a data set by name.

    Args:
        name: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Where the IDX files of `mnist` and `fashion-mnist` are, if not in the usual places.
        image_size: `(height, width)`, for `folder` and `fake` only.
        seed: Of the split into training and validation images.
        streaming: Leave the images of a `folder` on disk and decode them as they are needed; by default where
            the training images take more than 1 GiB.
        preprocess: How the images of a `folder` get to their size.
        like: Give `folder` and `fake` this one's size, channels and resize rule, so far as they are not given.

    Raises:
        DataError: No such data set, or it cannot be read.
        UsageError: An option for a data set that has no use for it.
    """
    kind, _, path = name.partition(":")
    if image_size is not None and kind not in ("folder", "fake"):
        raise UsageError(f"{name} has an image size of its own; --image-size is for folder:PATH and fake.")
    if kind != "folder" and (streaming or preprocess is not None):
        raise UsageError(f"{name} is in memory, at its own size; streaming and preprocessing are for folder:PATH.")
    channels = None
    if like is not None:
        image_size, channels = image_size or (like.height, like.width), like.channels
        preprocess = preprocess or like.preprocess
    match kind:
        case "digits":
            from onward_training.data.toy_datasets import load_digits

            return load_digits(seed)
        case "fashion-mnist" | "mnist":
            from onward_training.data.idx_files import load_idx_files

            return load_idx_files(kind, data_dir, seed)
        case "folder" if path:
            from onward_training.data.folder import load_folder

            return load_folder(
                Path(path), image_size, seed, channels=channels, preprocess=preprocess, streaming=streaming
            )
        case "fake":
            from onward_training.data.toy_datasets import load_fake

            return load_fake(image_size, channels or 1, seed)
        case _:
            raise DataError(f"data set {name!r} is unknown; there are {', '.join(NAMES)}.")


def load_for(signature: Signature, data: str, data_dir: Path | None = None) -> Dataset:
    """A data set in the form that a model takes: its size, colour, resize rule and, of more classes, its own.

    Raises:
        DataError: No such data set.
        UsageError: Its labels or its images are others.
    """
    dataset = load(data, data_dir=data_dir, like=signature)
    if set(signature.labels) <= set(dataset.signature.labels):
        dataset = dataset.select(signature.labels)
    for what in ("labels", "image_shape"):
        theirs, ours = getattr(dataset.signature, what), getattr(signature, what)
        if theirs != ours:
            raise UsageError(f"{data} has the {what.replace('_', ' ')} {theirs}, the model {ours}.")
    return dataset
