"""Given inputs: what the user gives with `--input`, stored as .npy files that every worker can map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.inputs import Arrays
from onward.benchmarking.model import ModelUnderTest
from onward.errors import DataError, FeedError, UsageError
from onward.feed import check_feed, from_pixels
from onward.npz import read_arrays
from onward.prediction.batch import Batcher, decode_batch
from onward.prediction.summary import Seconds
from onward.signature import Signature
from onward.sources import open_sources
from onward.tasks import task_of
from onward.tasks.task import NO_TARGET

__all__ = ["GivenInputs", "store_inputs"]

MAX_INPUTS = 1000


@dataclass(frozen=True)
class GivenInputs:
    """Where given inputs are stored.

    Args:
        folder: Has one .npy for each input of the model, by its name; None if nothing was given.
        labels: An int64 .npy with the class of each input, -1 for none; None if there are no labels.
    """

    folder: str | None = None
    labels: str | None = None


def store_inputs(
    path: str, models: Mapping[str, ModelUnderTest], folder: Path, labels_are: str | None = None
) -> GivenInputs:
    """Read up to 1,000 inputs and store them.

    Args:
        path: For models that take images, what `predict` takes; else an .npz with an array for each input, and
            optionally one called `labels`.
        models: The models that will get them; all must take the same.
        folder: Where they are stored.
        labels_are: What labels of images are, see `onward.prediction.PredictOptions`.

    Raises:
        DataError: The file cannot be read.
        FeedError, UsageError: The inputs do not fit a model.
    """
    first = next(iter(models.values()))
    if isinstance(first.signature, Signature):
        arrays, labels = _images(path, first.signature, labels_are)
    else:
        arrays, labels = _tensors(path)
    for model in models.values():
        _check(arrays, model)
    inputs = folder / "inputs"
    inputs.mkdir()
    for name, array in arrays.items():
        np.save(inputs / f"{name}.npy", array)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    return GivenInputs(str(inputs), None if labels is None else str(folder / "labels.npy"))


def _images(
    path: str, signature: Signature, labels_are: str | None
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    batch = Batcher(open_sources([path], signature).blocks()).take(MAX_INPUTS)
    prepared = decode_batch(batch, signature, Seconds()) if batch else None
    if prepared is None or not prepared.names:
        raise DataError(f"--input {path} has no image that can be read.")
    targets = task_of(signature).targets(prepared.labels or (), labels_are)
    labels = targets if (targets != NO_TARGET).any() else None
    return {signature.inputs[0].name: from_pixels(prepared.images, signature)}, labels


def _tensors(path: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    try:
        arrays = {name: array[:MAX_INPUTS] for name, array in read_arrays(Path(path).read_bytes(), f"--input {path}")}
    except OSError as error:
        raise DataError(f"--input {path} cannot be read: {error.strerror or error}.") from error
    labels = arrays.pop("labels", None)
    return arrays, None if labels is None else labels.astype(np.int64)


def _check(arrays: Arrays, model: ModelUnderTest) -> None:
    if len({len(array) for array in arrays.values()}) != 1:
        raise UsageError("--input has arrays of different lengths: each needs one entry for every input.")
    if model.signature is not None:
        check_feed(dict(arrays), model.signature)
        return
    names = [item.name for item in model.inputs]
    if sorted(arrays) != sorted(names):
        raise FeedError(f"--input has the arrays {sorted(arrays)}, but {model.path} takes {names}.")
    for item in model.inputs:
        item.check(arrays[item.name])
