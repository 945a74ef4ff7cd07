"""Preparation: a batch of inputs becomes the pixels that the model takes, and a list of those that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from onward.errors import ImageError
from onward.images.decode import decode, resize
from onward.prediction.batches import Batch
from onward.prediction.summary import Failure, Seconds
from onward.signature import Signature
from onward.sources.block import Block, Input, Pixels

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """What a batch has come to before inference.

    Args:
        names: Of the inputs that could be read.
        images: uint8 `(names, height, width, channels)`.
        labels: Of each, None where nobody gave one.
        places: Where each stands in the batch; None where all could be read.
        failures: The others.
        num_inputs: All of them.
    """

    names: Sequence[str]
    images: NDArray[np.uint8]
    labels: Sequence[str | None] | None
    places: NDArray[np.intp] | None
    failures: tuple[Failure, ...]
    num_inputs: int


def prepare(batch: Batch, signature: Signature, seconds: Seconds) -> Prepared:
    """Read, decode and resize.

    Args:
        batch: Some inputs.
        signature: What an image has to become.
        seconds: What each of the steps takes is added to.
    """
    parts = [_prepare(block, signature, seconds) for block in batch.blocks]
    return parts[0] if len(parts) == 1 else _join(parts)


def _prepare(block: Block, signature: Signature, seconds: Seconds) -> Prepared:
    if isinstance(block, Pixels):
        return Prepared(block.names, block.images, block.labels, None, (), len(block))
    images = np.empty((len(block), *signature.image_shape), np.uint8)
    kept: list[int] = []
    failures: list[Failure] = []
    for place, item in enumerate(block.inputs):
        failure = _read(item, images[len(kept)], signature, seconds)
        if failure is None:
            kept.append(place)
        else:
            failures.append(failure)
    inputs = [block.inputs[place] for place in kept]
    return Prepared(
        names=[item.name for item in inputs],
        images=images[: len(kept)],
        labels=[item.label for item in inputs] if any(item.label for item in inputs) else None,
        places=np.array(kept, np.intp) if failures else None,
        failures=tuple(failures),
        num_inputs=len(block),
    )


def _read(item: Input, target: NDArray[np.uint8], signature: Signature, seconds: Seconds) -> Failure | None:
    """Put the pixels of an input where they belong, or say why there are none."""
    stage, start = "read", perf_counter()
    try:
        data = item.read()
        stage, start = "decode", seconds.add("read", start)
        image = decode(data, signature)
        stage, start = "resize", seconds.add("decode", start)
        target[...] = resize(image, signature)
    except ImageError as error:
        return Failure(item.name, stage, str(error))
    finally:
        seconds.add(stage, start)
    return None


def _join(parts: Sequence[Prepared]) -> Prepared:
    starts = np.cumsum([0, *(part.num_inputs for part in parts)])
    failures = tuple(failure for part in parts for failure in part.failures)
    places = [
        start + (np.arange(part.num_inputs) if part.places is None else part.places)
        for start, part in zip(starts.tolist(), parts, strict=False)
    ]
    labels = [part.labels or [None] * len(part.names) for part in parts]
    return Prepared(
        names=[name for part in parts for name in part.names],
        images=np.concatenate([part.images for part in parts]),
        labels=[label for some in labels for label in some] if any(part.labels for part in parts) else None,
        places=np.concatenate(places) if failures else None,
        failures=failures,
        num_inputs=int(starts[-1]),
    )
