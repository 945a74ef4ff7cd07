"""Catalog: load a data set by the name that `--data` gives."""

from __future__ import annotations

from pathlib import Path

from onward.errors import DataError, UsageError, did_you_mean
from onward.signature import Preprocess, Signature
from onward_training.data.dataset import Dataset

__all__ = ["NAMES", "check", "load", "load_for"]

NAMES = ("digits", "fashion-mnist", "mnist", "folder:PATH", "fake")


def check(
    name: str,
    *,
    data_dir: Path | None = None,
    image_size: tuple[int, int] | None = None,
    preprocess: Preprocess | None = None,
    exif: str | None = None,
) -> None:
    """Check a name and what is given beside it, without reading an image.

    Args:
        name, data_dir, image_size, preprocess, exif: As for `load`.

    Raises:
        DataError: No such data set, or no such folder.
        UsageError: The data set does not take an option, or the rule for the EXIF orientation is unknown.
    """
    kind, _, path = name.partition(":")
    if kind not in {known.partition(":")[0] for known in NAMES} or (kind == "folder") != bool(path):
        raise DataError(f"data set {name!r} is unknown, expected one of {', '.join(NAMES)}.{_suggestion(name)}")
    if image_size is not None and kind not in ("folder", "fake"):
        raise UsageError(f"{name} has a fixed image size; --image-size is only for folder:PATH and fake.")
    if preprocess is not None and kind != "folder":
        raise UsageError(f"{name} is in memory at a fixed size; --resize is only for folder:PATH.")
    if exif is not None:
        if kind != "folder":
            raise UsageError(f"{name} holds pixels, not photographs with an orientation; exif is only for folder:PATH.")
        Preprocess().with_exif(exif)  # raises if the rule is unknown
    if kind == "folder" and not Path(path).is_dir():
        raise DataError(f"{name} does not exist, or is not a folder.{_nearby(Path(path))}")
    if kind in ("mnist", "fashion-mnist") and data_dir is not None:
        from onward_training.data.idx_files import find_folder

        find_folder(kind, data_dir)


def _suggestion(name: str) -> str:
    if Path(name).is_dir():
        return f" There is a folder {name}: --data folder:{name}"
    return did_you_mean(name, NAMES)


def _nearby(path: Path) -> str:
    folders = [item.name for item in path.parent.iterdir() if item.is_dir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, folders)


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
    channels: int | None = None,
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
        channels: 1 or 3, for `folder` and `fake` only; by default, those of a `folder` are 1 if all images are grey.
        like: Gives `folder` and `fake` size, channels and resize rule, unless these are given.
        exif: `apply` or `ignore` the EXIF orientation of a `folder`'s images; by default as `preprocess` or `like`
            says, else `ignore`, as torchvision's `ImageFolder`.

    Raises:
        DataError: No such data set, or it cannot be read.
        UsageError: The data set does not take an option.
    """
    check(name, data_dir=data_dir, image_size=image_size, preprocess=preprocess, exif=exif)
    kind, _, path = name.partition(":")
    if kind != "folder" and streaming:
        raise UsageError(f"{name} is in memory at a fixed size; streaming is only for folder:PATH.")
    if like is not None:
        image_size, channels = image_size or (like.height, like.width), channels or like.channels
        preprocess = preprocess or like.preprocess
    preprocess = (preprocess or Preprocess()).with_exif(exif)
    match kind:
        case "digits":
            from onward_training.data.toy_datasets import load_digits

            return load_digits(seed)
        case "fashion-mnist" | "mnist":
            from onward_training.data.idx_files import load_idx_files

            return load_idx_files(kind, data_dir, seed)
        case "folder":
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
        case _:
            from onward_training.data.toy_datasets import load_fake

            return load_fake(image_size, channels or 1, seed)


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
