"""Batch: consecutive inputs of a source, decoded and predicted together.

`predict_batch` does all of it for one batch, without threads, files or journal: any engine that schedules batches by
itself can call it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import ImageError
from onward.feed import from_pixels
from onward.images.decode import decode, resize
from onward.images.room import one_image
from onward.parity import Outputs
from onward.prediction.options import PredictOptions
from onward.prediction.summary import Counts, Failure, Seconds
from onward.signature import Signature
from onward.sinks import Columns, Rows
from onward.sources import Block, Images, Item, Pixels
from onward.tasks import Task, task_of
from onward.tasks.task import NO_ANSWER, NO_TARGET

__all__ = ["Batch", "BatchResult", "Batcher", "DecodedBatch", "decode_batch", "predict_batch"]


@dataclass(frozen=True)
class Batch:
    """Consecutive inputs.

    Args:
        blocks: The blocks that contain them.
        digest: Of the names and stamps of all inputs up to the last of these.
    """

    blocks: tuple[Block, ...]
    digest: str = ""

    def __len__(self) -> int:
        return sum(map(len, self.blocks))

    @property
    def size_bytes(self) -> int:
        """How much memory its encoded images take."""
        return sum(item.size_bytes for block in self.blocks if isinstance(block, Images) for item in block.items)


class Batcher:
    """Regroups blocks into batches of any size.

    Args:
        blocks: All inputs, in order.
    """

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self.rest: Block | None = None
        self.digest = hashlib.blake2b(digest_size=16)

    def take(self, count: int, max_bytes: int | None = None) -> Batch | None:
        """The next `count` inputs, or fewer at the end; None if there are none left.

        Args:
            count: How many.
            max_bytes: Limit of their encoded images in memory: fewer inputs are taken, but at least one.
        """
        taken: list[Block] = []
        left = max_bytes
        while count and (block := self._next()):
            fitting = count if left is None else min(count, _fitting(block, left))
            if not fitting and taken:
                break
            taken.append(block[: max(fitting, 1)])
            self.rest = block[len(taken[-1]) :]
            count -= len(taken[-1])
            left = None if left is None else left - Batch((taken[-1],)).size_bytes
            self.digest.update(taken[-1].stamps)
        return Batch(tuple(taken), self.digest.hexdigest()) if taken else None

    def _next(self) -> Block | None:
        while not self.rest:
            self.rest = next(self.blocks, None)
            if self.rest is None:
                return None
        return self.rest


def _fitting(block: Block, left_bytes: int) -> int:
    """How many images of a block fit."""
    if not isinstance(block, Images):
        return len(block)
    sizes = accumulate(item.size_bytes for item in block.items)
    return sum(1 for size in sizes if size <= left_bytes)


@dataclass(frozen=True)
class BatchResult:
    """The rows of a batch, and its inputs without one.

    Args:
        rows: One per input with an answer, in order.
        columns: What the values of a row are.
        failures: The other inputs, in order.
        counts: Of both.
        seconds: Time by stage.
    """

    rows: Rows
    columns: Columns
    failures: tuple[Failure, ...]
    counts: Counts
    seconds: Seconds

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """The rows as columns, in the order of a file of rows.

        Returns:
            Column name -> array `(rows, …)`: `input`, then e.g. `label` (str objects), `index` (int) and `probability`
            (float32), all `(rows,)`.
        """
        found = {"input": np.array(self.rows.names, object)}
        for column in self.columns.columns:
            values = self.rows.values[column.name]
            is_text = column.categories is not None
            found[column.name] = np.array(column.categories, object)[values] if is_text else values
        return found


def predict_batch(
    run: Callable[[NDArray[Any]], Outputs],
    signature: Signature,
    items: Batch | Block | Sequence[Item],
    options: PredictOptions | None = None,
    *,
    task: Task | None = None,
) -> BatchResult:
    """Decode a batch, run the model and make rows of its outputs. It keeps no state, and threads may call it.

    An image that cannot be read, or for which the model gives NaN or infinity, does not stop the others: it becomes a
    failure.

    Args:
        run: Runs the model: `Engine.run`, or `run` of a backend. The feed is uint8 `(batch, height, width, channels)`,
            or float32 `(batch, channels, height, width)` for a model that does not normalise; the outputs are arrays
            `(batch, …)` by name, e.g. `logits`: float32 `(batch, classes)`.
        signature: Inputs and outputs of the model.
        items: Encoded images, each `Item.of_bytes(name, data)`; or pixels, each `Item.of_pixels(name, image)` or all in
            one array `Pixels(name, images)` of uint8 `(images, height, width, channels)`; or a batch of a source.
        options: `top_k` and `logits` are used.
        task: By default the task of the signature; pass it to save its construction for every batch.

    Returns:
        Rows, whose `to_columns()` are arrays by name, and failures with stage and reason. An empty batch gives no rows.

    Raises:
        UsageError: Top-k is not 1 to the number of classes.
    """
    options, task, seconds = options or PredictOptions(), task or task_of(signature), Seconds()
    columns = task.columns(options.columns)
    decoded = decode_batch(_batch_of(items), signature, seconds)
    start = perf_counter()
    outputs = run(from_pixels(decoded.images, signature)) if decoded.names else task.no_outputs()
    start = seconds.add("infer", start)
    is_answered = task.answered(outputs)
    num_unanswered = int((~is_answered).sum())
    if num_unanswered:
        outputs = {name: array[is_answered] for name, array in outputs.items()}
        decoded = _without_unanswered(decoded, is_answered)
    rows = Rows(decoded.names, task.values(outputs, options.columns), decoded.places, decoded.num_inputs)
    num_labelled, num_correct = _compare(task, outputs, decoded.labels, options.labels_are)
    counts = Counts(
        decoded.num_inputs, len(decoded.names), num_labelled, num_correct, num_unanswered, decoded.num_16_bit
    )
    seconds.add("write", start)
    return BatchResult(rows, columns, decoded.failures, counts, seconds)


def _batch_of(items: Batch | Block | Sequence[Item]) -> Batch:
    if isinstance(items, Batch):
        return items
    return Batch((items if isinstance(items, (Images, Pixels)) else Images(items),))


def _without_unanswered(decoded: DecodedBatch, is_answered: NDArray[np.bool_]) -> DecodedBatch:
    """The batch with a failure in place of each input that the model has no answer for."""
    places = np.arange(decoded.num_inputs) if decoded.places is None else decoded.places
    unreadable = np.setdiff1d(np.arange(decoded.num_inputs), places)
    failures = dict(zip(unreadable.tolist(), decoded.failures, strict=True))
    for index in np.flatnonzero(~is_answered).tolist():
        failures[int(places[index])] = Failure(decoded.names[index], "infer", NO_ANSWER)
    kept = np.flatnonzero(is_answered).tolist()
    return replace(
        decoded,
        names=[decoded.names[index] for index in kept],
        images=decoded.images[kept],
        labels=None if decoded.labels is None else [decoded.labels[index] for index in kept],
        places=places[kept],
        failures=tuple(failures[place] for place in sorted(failures)),
    )


def _compare(
    task: Task, outputs: Outputs, labels: Sequence[str | None] | None, labels_are: str | None
) -> tuple[int, int]:
    """The number of rows whose label the model knows, and of those that it predicts correctly."""
    if labels is None:
        return 0, 0
    targets = task.targets(labels, labels_are)
    return int((targets != NO_TARGET).sum()), task.count_correct(outputs, targets)


@dataclass(frozen=True)
class DecodedBatch:
    """The pixels of a batch.

    Args:
        names: Of the inputs that could be read.
        images: uint8 `(names, height, width, channels)`.
        labels: One per name, None for an input without a label; None if there are no labels.
        places: Index of each name in the batch; None if all inputs could be read.
        failures: The other inputs.
        num_inputs: All inputs.
        num_16_bit: Images of 16 bits per value among those that could be read.
    """

    names: Sequence[str]
    images: NDArray[np.uint8]
    labels: Sequence[str | None] | None
    places: NDArray[np.intp] | None
    failures: tuple[Failure, ...]
    num_inputs: int
    num_16_bit: int = 0


def decode_batch(batch: Batch, signature: Signature, seconds: Seconds) -> DecodedBatch:
    """Read, decode and resize the images of a batch.

    Args:
        batch: The inputs.
        signature: Size, channels and resize rule of an image.
        seconds: The time of each stage is added to it.
    """
    parts = [_decode_block(block, signature, seconds) for block in batch.blocks]
    return parts[0] if len(parts) == 1 else _concatenate(parts)


def _decode_block(block: Block, signature: Signature, seconds: Seconds) -> DecodedBatch:
    if isinstance(block, Pixels):
        return DecodedBatch(block.names, block.images, block.labels, None, (), len(block))
    images = np.empty((len(block), *signature.image_shape), np.uint8)
    kept: list[int] = []
    failures: list[Failure] = []
    num_16_bit = 0
    for place, item in enumerate(block.items):
        found = _decode_item(item, images[len(kept)], signature, seconds)
        if isinstance(found, Failure):
            failures.append(found)
        else:
            kept.append(place)
            num_16_bit += found
    items = [block.items[place] for place in kept]
    return DecodedBatch(
        names=[item.name for item in items],
        images=images[: len(kept)],
        labels=[item.label for item in items] if any(item.label for item in items) else None,
        places=np.array(kept, np.intp) if failures else None,
        failures=tuple(failures),
        num_inputs=len(block),
        num_16_bit=num_16_bit,
    )


def _decode_item(item: Item, target: NDArray[np.uint8], signature: Signature, seconds: Seconds) -> Failure | bool:
    """Put the pixels of an item into `target`; return whether its file has 16 bits per value, or why it fails."""
    stage, start = "read", perf_counter()
    try:
        data = item.read()
        stage, start = "decode", seconds.add("read", start)
        if isinstance(data, np.ndarray):
            _check_pixels(data, signature)
            target[...] = data
            return False
        with one_image():
            image, has_16_bits = decode(data, signature)
            stage, start = "resize", seconds.add("decode", start)
            target[...] = resize(image, signature)
    except ImageError as error:
        return Failure(item.name, stage, str(error))
    finally:
        seconds.add(stage, start)
    return has_16_bits


def _check_pixels(pixels: NDArray[Any], signature: Signature) -> None:
    if pixels.dtype != np.uint8 or pixels.shape != signature.image_shape:
        raise ImageError(
            f"has pixels {pixels.dtype} {pixels.shape}, expected uint8 {signature.image_shape}: arrays are not resized"
        )


def _concatenate(parts: Sequence[DecodedBatch]) -> DecodedBatch:
    starts = np.cumsum([0, *(part.num_inputs for part in parts)])
    failures = tuple(failure for part in parts for failure in part.failures)
    places = [
        start + (np.arange(part.num_inputs) if part.places is None else part.places)
        for start, part in zip(starts.tolist(), parts, strict=False)
    ]
    labels = [part.labels or [None] * len(part.names) for part in parts]
    return DecodedBatch(
        names=[name for part in parts for name in part.names],
        images=np.concatenate([part.images for part in parts]),
        labels=[label for some in labels for label in some] if any(part.labels for part in parts) else None,
        places=np.concatenate(places) if failures else None,
        failures=failures,
        num_inputs=int(starts[-1]),
        num_16_bit=sum(part.num_16_bit for part in parts),
    )
