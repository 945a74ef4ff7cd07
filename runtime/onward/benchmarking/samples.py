"""Samples: what a turn is fed. Half of it is of a record that says what has to come out, the rest is given or drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.record import Record
from onward.benchmarking.subject import Subject
from onward.feed import check_feed, draw

__all__ = ["Batch", "Samples", "draw_arrays", "fresh_arrays"]

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
