"""Feed: the arrays that a model takes in one run, with samples along the first axis.

It is a dictionary of arrays by the names of the inputs. For a model with one input, the array itself is a feed, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import FeedError
from onward.signature import AnySignature, Input, Signature

__all__ = ["Feed", "arrays_of", "by_name", "check_feed", "draw", "from_pixels", "num_samples", "take"]

Feed = NDArray[Any] | Mapping[str, NDArray[Any]]


def num_samples(feed: Feed) -> int:
    """How many samples a feed holds."""
    return len(arrays_of(feed)[0])


def take(feed: Feed, index: slice | NDArray[np.intp]) -> Feed:
    """Some samples of a feed."""
    if isinstance(feed, Mapping):
        return {name: array[index] for name, array in feed.items()}
    return feed[index]


def arrays_of(feed: Feed) -> list[NDArray[Any]]:
    """The arrays of a feed, in its own order."""
    return list(feed.values()) if isinstance(feed, Mapping) else [feed]


def by_name(feed: Feed, names: Sequence[str]) -> Mapping[str, NDArray[Any]]:
    """The arrays of a feed by the names of the inputs. Dtypes and shapes are not checked.

    Raises:
        FeedError: The feed is one array, and the model takes several inputs.
    """
    if isinstance(feed, Mapping):
        return feed
    if len(names) != 1:
        listed = ", ".join(map(repr, names))
        raise FeedError(f"the model takes {len(names)} inputs ({listed}): expected a dictionary of arrays.")
    return {names[0]: feed}


def draw(signature: AnySignature, count: int, generator: np.random.Generator) -> Feed:
    """Random samples for a model: pixels, or numbers of each input's dtype and range."""
    if isinstance(signature, Signature):
        return from_pixels(generator.integers(0, 256, (count, *signature.image_shape), np.uint8), signature)
    if len(signature.inputs) == 1:
        return signature.inputs[0].draw(count, generator)
    return {item.name: item.draw(count, generator) for item in signature.inputs}


def from_pixels(images: NDArray[np.uint8], signature: Signature) -> NDArray[Any]:
    """Raw pixels as the model takes them. They are normalised here if the model does not do it itself.

    Args:
        images: uint8 `(batch, height, width, channels)`.
        signature: Interface, mean, std and repeat.

    Returns:
        The images themselves, or float32 `(batch, network's channels, height, width)`.
    """
    if signature.interface == "pixels":
        return images
    # one scale and one shift, as training and the exported files have them
    mean, std = (np.asarray(item, np.float64).reshape(-1, 1, 1) for item in (signature.mean, signature.std))
    scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
    planes = np.moveaxis(images, 3, 1).astype(np.float32)
    return np.ascontiguousarray(np.repeat(planes, signature.repeat, axis=1) * scale + shift)


def check_feed(feed: Feed, signature: AnySignature) -> dict[str, NDArray[Any]]:
    """Check a feed against the signature.

    Returns:
        Input name -> array, in the signature's order.

    Raises:
        FeedError: A name, a dtype or a shape disagrees.
    """
    inputs = signature.inputs
    feed = by_name(feed, [item.name for item in inputs])
    unknown = [name for name in feed if name not in {item.name for item in inputs}]
    missing = [item.name for item in inputs if item.name not in feed]
    if unknown or missing:
        raise FeedError(f"the feed has the inputs {list(feed)}, expected {[item.name for item in inputs]}.")
    for item in inputs:
        _check(feed[item.name], item, signature)
    lengths = {item.name: len(feed[item.name]) for item in inputs}
    if len(set(lengths.values())) > 1:
        raise FeedError(f"the inputs have batches of different sizes: {lengths}.")
    return {item.name: feed[item.name] for item in inputs}


def _check(array: NDArray[Any], item: Input, signature: AnySignature) -> None:
    is_pixels = isinstance(signature, Signature) and signature.interface == "pixels"
    if array.dtype != item.dtype:
        reason = " The model scales and normalises them itself." if is_pixels else ""
        what = "uint8: raw pixels from 0 to 255." if is_pixels else f"{item.dtype}."
        raise FeedError(f"input '{item.name}' is {array.dtype}, expected {what}{reason}")
    if array.ndim == len(item.shape) + 1 and all(
        expected in (None, found) for expected, found in zip(item.shape, array.shape[1:], strict=True)
    ):
        return
    reason = _pixel_mistake(array, signature) if is_pixels and isinstance(signature, Signature) else ""
    raise FeedError(f"input '{item.name}' has shape {array.shape}, expected {item.described_shape}{reason}.")


def _pixel_mistake(images: NDArray[Any], signature: Signature) -> str:
    height, width, channels = signature.image_shape
    if images.shape == (channels, height, width):
        return f": the channel axis comes last, {signature.image_shape}"
    if images.shape[1:] == signature.image_shape[:2]:
        return ": the channel axis is missing"
    if images.ndim == 4 and images.shape[1:3] == signature.image_shape[:2]:
        return f": it has {images.shape[3]} channels, the model takes {signature.channels}"
    if images.ndim == 4 and images.shape[1] == signature.channels:
        return ": the channel axis belongs last"
    return ""
