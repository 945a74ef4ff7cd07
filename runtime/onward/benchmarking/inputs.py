"""Samples: what a turn is fed. Half of it is of a record that says what has to come out, the rest is given or drawn.

Supply: samples that somebody gives to be timed with, laid down where every competitor's process can read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.model import Record, Subject
from onward.errors import DataError, FeedError, UsageError
from onward.feed import check_feed, draw, from_pixels
from onward.prediction.pipeline import Batches, prepare
from onward.prediction.summary import Seconds
from onward.signature import Signature
from onward.sources import open_sources
from onward.tasks import task_of
from onward.tasks.task import NO_TARGET

__all__ = ["Batch", "Samples", "Supply", "draw_arrays", "fresh_arrays", "lay_down"]


#: A turn goes round so many batches, within so much memory: one array for ever would stay in the nearest cache.
FEWEST, MOST = 2, 16
POOL_BYTES = 8 << 20

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Batch:
    """What one inference takes.

    Args:
        arrays: Input name -> array.
        kind: Of the record's samples; empty for what is not in it.
        index: Which of them.
    """

    arrays: Arrays
    kind: str = ""
    index: NDArray[np.intp] | None = None


class Samples:
    """Where a competitor's batches come from.

    Args:
        subject: Says what a model takes.
        record: Samples of which it is known what must come out.
        given: Input name -> samples to time with; without them others are drawn, anew for each turn.
    """

    def __init__(self, subject: Subject, record: Record, given: Arrays | None) -> None:
        self.subject, self.record, self.given = subject, record, given

    def pool(self, batch_size: int, generator: np.random.Generator) -> list[Batch]:
        """The batches of a turn, shuffled."""
        first = self.fresh(batch_size, generator)
        size_bytes = sum(array.nbytes for array in first.arrays.values())
        count = min(max(POOL_BYTES // max(size_bytes, 1), FEWEST), MOST)
        batches = [first, *(self.fresh(batch_size, generator) for _ in range(count // 2 - 1))]
        batches += [self.known(batch_size, generator) for _ in range(count - len(batches))]
        return [batches[at] for at in generator.permutation(len(batches))]

    def fresh(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """A batch that nobody has seen the outputs of."""
        return Batch(fresh_arrays(self.subject, self.given, batch_size, generator))

    def known(self, batch_size: int, generator: np.random.Generator) -> Batch:
        """A batch of the record's."""
        kind = self.record.kinds[generator.integers(len(self.record.kinds))]
        index = _choose(self.record.count(kind), batch_size, generator)
        return Batch(self.record.take(kind, index), kind, index)


def fresh_arrays(subject: Subject, given: Arrays | None, batch_size: int, generator: np.random.Generator) -> Arrays:
    """Some of the samples that were given, or drawn ones.

    Raises:
        UsageError: As for `draw_arrays`.
    """
    if given is None:
        return draw_arrays(subject, batch_size, generator)
    index = _choose(len(next(iter(given.values()))), batch_size, generator)
    return {name: np.ascontiguousarray(array[index]) for name, array in given.items()}


def draw_arrays(subject: Subject, count: int, generator: np.random.Generator) -> Arrays:
    """Random samples: pixels, or each input's own kind of number.

    Raises:
        UsageError: A file that is not ours has an input that cannot be drawn.
    """
    if subject.signature is not None:
        return check_feed(draw(subject.signature, count, generator), subject.signature)
    return {tensor.name: tensor.draw(count, generator) for tensor in subject.tensors}


def _choose(count: int, batch_size: int, generator: np.random.Generator) -> NDArray[np.intp]:
    return generator.choice(count, batch_size, replace=batch_size > count)


MAX_SAMPLES = 1000


@dataclass(frozen=True)
class Supply:
    """Where given samples lie.

    Args:
        folder: One .npy an input of the model, by its name; None where nothing was given.
        labels: .npy, int64: the class of each sample, -1 for none; None where there are none.
    """

    folder: str | None = None
    labels: str | None = None


def lay_down(path: str, subjects: Mapping[str, Subject], folder: Path) -> Supply:
    """Read up to 1,000 samples, and write them where the processes can read them.

    Args:
        path: What `predict` takes, for models that take images; else an .npz with an array for each input, and
            perhaps one `labels`.
        subjects: That they are for; all have to take the same.
        folder: Where to.

    Raises:
        DataError: Nothing can be read there.
        FeedError, UsageError: It does not fit a model.
    """
    first = next(iter(subjects.values()))
    arrays, labels = _images(path, first.signature) if isinstance(first.signature, Signature) else _tensors(path)
    for subject in subjects.values():
        _check(arrays, subject)
    inputs = folder / "inputs"
    inputs.mkdir()
    for name, array in arrays.items():
        np.save(inputs / f"{name}.npy", array)
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    return Supply(str(inputs), None if labels is None else str(folder / "labels.npy"))


def _images(path: str, signature: Signature) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    batch = Batches(open_sources([path], signature).blocks()).take(MAX_SAMPLES)
    prepared = prepare(batch, signature, Seconds()) if batch else None
    if prepared is None or not prepared.names:
        raise DataError(f"--input {path} has no image that can be read.")
    targets = task_of(signature).targets(prepared.labels or ())
    labels = targets if (targets != NO_TARGET).any() else None
    return {signature.inputs[0].name: from_pixels(prepared.images, signature)}, labels


def _tensors(path: str) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64] | None]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name][:MAX_SAMPLES] for name in archive}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"--input {path} is no .npz with an array for each input: {error}.") from error
    labels = arrays.pop("labels", None)
    return arrays, None if labels is None else labels.astype(np.int64)


def _check(arrays: Mapping[str, NDArray[Any]], subject: Subject) -> None:
    if len({len(array) for array in arrays.values()}) != 1:
        raise UsageError("--input has arrays of different lengths.")
    if subject.signature is not None:
        check_feed(dict(arrays), subject.signature)
        return
    names = [tensor.name for tensor in subject.tensors]
    if sorted(arrays) != sorted(names):
        raise FeedError(f"--input has the arrays {sorted(arrays)}, {subject.path} takes {names}.")
    for tensor in subject.tensors:
        tensor.check(arrays[tensor.name])
