"""Expected outputs: inputs whose outputs are known, so that a fast backend with wrong outputs is reported as wrong.

A bundle has its golden record, with float64 outputs and PyTorch's noise. For any other file only its own first outputs
are known: later inferences must reproduce them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.bundle.lower_precision_record import LowerPrecisionRecord
from onward.feed import check_feed, num_samples, take
from onward.lower_precision import MAX_DEVIATION_RATIO
from onward.parity import CONSTANT, MAX_RELATIVE_ERROR, compare
from onward.signature import AnySignature

__all__ = ["ExpectedOutputs", "FirstOutputs", "GoldenOutputs", "OutputCheck", "RecordedOutputs"]

#: How far an output of a file without a golden record may move between batch sizes, over its largest value.
MAX_RELATIVE_MOVE = 1e-3
FIRST = "first outputs"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class OutputCheck:
    """How the outputs of one inference compare with the expected ones.

    Args:
        distance: The largest noise ratio; for a lower precision the largest deviation from the recorded outputs, over
            the quantisation error; for a file without a golden record, the largest move over the allowed one.
        passed: Whether the parity gate, or the rule of the lower precision, would pass them.
        is_wrong: Whether they are further off than float32 arithmetic explains, in whatever order it is done; for a
            lower precision, whether they break its rule.
    """

    distance: float
    passed: bool
    is_wrong: bool


class ExpectedOutputs(Protocol):
    """Inputs by kind, and a check of their outputs."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds."""

    def count(self, kind: str) -> int:
        """Number of inputs of a kind."""

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some inputs of a kind: input name -> array."""

    def check(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> OutputCheck:
        """Compare the outputs for these inputs with the expected ones."""


class GoldenOutputs:
    """A bundle's golden record, without its constant images, which are not a realistic load.

    Args:
        golden: The record.
        signature: The bundle's.
    """

    def __init__(self, golden: GoldenRecord, signature: AnySignature) -> None:
        self.golden, self.signature = golden, signature
        self.kinds = tuple(kind for kind in golden.inputs if kind != CONSTANT)

    def count(self, kind: str) -> int:
        """Number of inputs of a kind."""
        return num_samples(self.golden.inputs[kind])

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some inputs of a kind: input name -> array."""
        return check_feed(take(self.golden.inputs[kind], index), self.signature)

    def check(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> OutputCheck:
        """Compare with the float64 reference, in units of PyTorch's noise."""
        rows = [
            compare(
                output,
                kind,
                [np.asarray(candidate)],
                reference[index],
                self.golden.eager[kind][output][index],
                self.golden.noise[kind][output],
            )
            for (output, reference), candidate in zip(self.golden.reference[kind].items(), outputs, strict=True)
        ]
        passed = all(row.passed for row in rows)
        is_near = all(row.error <= MAX_RELATIVE_ERROR * row.noise.scale for row in rows)
        return OutputCheck(max(row.noise_ratio for row in rows), passed, not passed and not is_near)


class RecordedOutputs(GoldenOutputs):
    """The golden record for an artifact of lower precision: it must give what it gave on the building machine.

    The rule is that of `verify`: for each kind and output, the root-mean-square deviation over all samples is at most
    twice the quantisation error. A batch has some of the samples. What it deviates by is remembered for each sample,
    and a sample that was not seen yet counts as equal: so a few values that fall on the other side of a rounding do not
    make a batch wrong.

    Args:
        record: Of the artifact.
        signature: The bundle's.
    """

    def __init__(self, record: LowerPrecisionRecord, signature: AnySignature) -> None:
        super().__init__(record.golden, signature)
        self.recorded, self.errors = record.recorded, record.errors
        # kernels differ by batch size, and so may their outputs
        self._squares: dict[tuple[str, str, int], NDArray[np.float64]] = {}

    def check(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> OutputCheck:
        """Compare with the recorded outputs, in units of the quantisation error."""
        ratios = [
            self._deviation(kind, output, index, np.asarray(candidate)) / self.errors[kind][output]
            for output, candidate in zip(self.golden.reference[kind], outputs, strict=True)
        ]
        worst = max(ratio if ratio == ratio else float("inf") for ratio in ratios)
        passed = worst <= MAX_DEVIATION_RATIO
        return OutputCheck(worst, passed, not passed)

    def _deviation(self, kind: str, output: str, index: NDArray[np.intp], candidate: NDArray[Any]) -> float:
        """The root-mean-square deviation over all samples, as far as they were seen in batches of this size."""
        recorded = self.recorded[kind][output]
        squares = self._squares.setdefault((kind, output, len(index)), np.zeros(len(recorded)))
        differences = np.square(candidate.astype(np.float64) - recorded[index]).reshape(len(index), -1)
        squares[index] = differences.mean(1)
        return float(np.sqrt(squares.mean()))


class FirstOutputs:
    """A model's first outputs.

    Args:
        inputs: Input name -> array.
        outputs: The outputs for them, in the file's order.
    """

    kinds = (FIRST,)

    def __init__(self, inputs: Arrays, outputs: Sequence[NDArray[Any]]) -> None:
        self.inputs, self.outputs = inputs, outputs

    def count(self, kind: str) -> int:
        """Number of inputs."""
        return len(next(iter(self.inputs.values())))

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of the inputs: input name -> array."""
        return {name: array[index] for name, array in self.inputs.items()}

    def check(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> OutputCheck:
        """Compare with the first outputs; outputs without a batch axis are not compared."""
        ratios = [
            _relative_move(np.asarray(output), first[index])
            for output, first in zip(outputs, self.outputs, strict=True)
            if first.ndim and len(first) == self.count(kind) and output.shape[1:] == first.shape[1:]
        ]
        worst = max(ratios, default=0.0)
        return OutputCheck(worst, worst <= 1, worst > 1)


def _relative_move(output: NDArray[Any], first: NDArray[Any]) -> float:
    """The largest change over the allowed one; infinite for a NaN that was not one at first."""
    if output.shape != first.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        moves = np.abs(output.astype(np.float64) - first.astype(np.float64))
    moves = np.where(np.isnan(output) & np.isnan(first) if output.dtype.kind == "f" else False, 0.0, moves)
    scale = float(np.abs(first.astype(np.float64)).max(initial=0.0)) or 1.0
    worst = float(moves.max(initial=0.0)) / (MAX_RELATIVE_MOVE * scale)
    return worst if worst == worst else float("inf")
