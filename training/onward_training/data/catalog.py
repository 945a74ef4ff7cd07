"""Catalog: load a data set by the name that `--data` gives."""

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
    classes: tuple[str, ...] = (),
    exif: str | None = None,
) -> Dataset:
    """Load a data set by name.

    Args:
        name: `digits`, `fashion-mnist`, `mnist`, `folder:PATH` or `fake`.
        data_dir: Folder with the IDX files of `mnist` or `fashion-mnist`, if not in the usual places.
        image_size: `(height, width)`, for `folder` and `fake` only.
        seed: Of the split into training and validation images, and of `fake`.
        streaming: Leave the images of a `folder` on disk and decode them when needed; by default if the training
            images take more than 1 GiB.
        preprocess: How the images of a `folder` are resized.
        classes: Of the model that is evaluated: a `folder` may lack some of them.
        like: Gives `folder` and `fake` size, channels and resize rule, unless these are given.
        exif: `apply` or `ignore` the EXIF orientation of a `folder`'s images; by default as `preprocess` or `like`
            says, else `ignore`, as torchvision's `ImageFolder`.

    Raises:
        DataError: No such data set, or it cannot be read.
        UsageError: The data set does not take an option.
    """
    kind, _, path = name.partition(":")
    if image_size is not None and kind not in ("folder", "fake"):
        raise UsageError(f"{name} has a fixed image size; --image-size is only for folder:PATH and fake.")
    if kind != "folder" and (streaming or preprocess is not None):
        raise UsageError(f"{name} is in memory at a fixed size; streaming and preprocessing are only for folder:PATH.")
    if kind != "folder" and exif is not None:
        raise UsageError(f"{name} holds pixels, not photographs with an orientation; exif is only for folder:PATH.")
    channels = None
    if like is not None:
        image_size, channels = image_size or (like.height, like.width), like.channels
        preprocess = preprocess or like.preprocess
    preprocess = (preprocess or Preprocess()).with_exif(exif)
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
                Path(path),
                image_size,
                seed,
                channels=channels,
                preprocess=preprocess,
                streaming=streaming,
                classes=classes,
            )
        case "fake":
            from onward_training.data.toy_datasets import load_fake

            return load_fake(image_size, channels or 1, seed)
        case _:
            raise DataError(f"data set {name!r} is unknown, expected one of {', '.join(NAMES)}.")


def load_for(signature: Signature, data: str, data_dir: Path | None = None) -> Dataset:
    """Load a data set in the form that a model takes: its size, channels and resize rule, and its classes.

    The data set may lack some of the classes.

    Raises:
        DataError: No such data set, or it has other classes than the model.
        UsageError: The data set has another image shape than the model.
    """
    dataset = load(data, data_dir=data_dir, like=signature, classes=signature.labels)
    if dataset.signature.image_shape != signature.image_shape:
        raise UsageError(
            f"{data} has the image shape {dataset.signature.image_shape}, but the model has {signature.image_shape}."
        )
    return dataset.for_labels(signature.labels)
