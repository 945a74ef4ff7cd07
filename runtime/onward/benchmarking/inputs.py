"""Inputs: what the inferences of a sample get. Half have known outputs, the other half are random or given.

A worker imports this file: it must not load the readers of image files (`given_inputs.py`), which would count as the
candidate's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.expected_outputs import ExpectedOutputs
from onward.benchmarking.model import ModelUnderTest
from onward.feed import check_feed, draw

__all__ = ["Arrays", "InputBatch", "InputSampler", "choose_inputs", "random_inputs"]

#: A sample cycles through this many batches, of this much memory: a single array would stay in the nearest cache.
MIN_BATCHES, MAX_BATCHES = 2, 16
POOL_BYTES = 8 << 20

#: Input name -> array.
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class InputBatch:
    """What one inference gets.

    Args:
        arrays: Input name -> array.
        kind: Kind of the inputs among the expected outputs; empty if their outputs are not known.
        index: Which inputs of that kind.
    """

    arrays: Arrays
    kind: str = ""
    index: NDArray[np.intp] | None = None


class InputSampler:
    """Makes a candidate's batches.

    Args:
        model: Describes the inputs.
        expected: Inputs whose outputs are known.
        given: Input name -> array, from the user; None for random inputs, new ones for each sample.
    """

    def __init__(self, model: ModelUnderTest, expected: ExpectedOutputs, given: Arrays | None) -> None:
        self.model, self.expected, self.given = model, expected, given

    def batches(self, batch_size: int, generator: np.random.Generator) -> list[InputBatch]:
        """The batches of one sample, shuffled."""
        first = self.unchecked_batch(batch_size, generator)
        size_bytes = sum(array.nbytes for array in first.arrays.values())
        count = min(max(POOL_BYTES // max(size_bytes, 1), MIN_BATCHES), MAX_BATCHES)
        batches = [first, *(self.unchecked_batch(batch_size, generator) for _ in range(count // 2 - 1))]
        batches += [self.checked_batch(batch_size, generator) for _ in range(count - len(batches))]
        return [batches[at] for at in generator.permutation(len(batches))]

    def unchecked_batch(self, batch_size: int, generator: np.random.Generator) -> InputBatch:
        """A batch whose outputs are not known."""
        return InputBatch(choose_inputs(self.model, self.given, batch_size, generator))

    def checked_batch(self, batch_size: int, generator: np.random.Generator) -> InputBatch:
        """A batch whose outputs are known."""
        kind = self.expected.kinds[generator.integers(len(self.expected.kinds))]
        index = _choose(self.expected.count(kind), batch_size, generator)
        return InputBatch(self.expected.take(kind, index), kind, index)


def choose_inputs(
    model: ModelUnderTest, given: Arrays | None, batch_size: int, generator: np.random.Generator
) -> Arrays:
    """A batch of the given inputs, or a random one.

    Raises:
        UsageError: As for `random_inputs`.
    """
    if given is None:
        return random_inputs(model, batch_size, generator)
    index = _choose(len(next(iter(given.values()))), batch_size, generator)
    return {name: np.ascontiguousarray(array[index]) for name, array in given.items()}


def random_inputs(model: ModelUnderTest, count: int, generator: np.random.Generator) -> Arrays:
    """Random inputs: pixels, or what the dtype of each input suggests.

    Raises:
        UsageError: There are no random values for an input of an ONNX file.
    """
    if model.signature is not None:
        return check_feed(draw(model.signature, count, generator), model.signature)
    return {item.name: item.draw(count, generator) for item in model.inputs}


def _choose(count: int, batch_size: int, generator: np.random.Generator) -> NDArray[np.intp]:
    return generator.choice(count, batch_size, replace=batch_size > count)
