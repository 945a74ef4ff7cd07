"""Record: samples of which it is known what must come out, so that a fast wrong answer is seen while it is timed.

A bundle has its golden record, with float64 outputs and PyTorch's noise. Of any other file only this is known: what
it gave in its first inferences, which it has to give again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.feed import check_feed, num_samples, take
from onward.parity import CONSTANT, MAX_RELATIVE_ERROR, compare
from onward.tensor_signature import AnySignature

__all__ = ["GoldenAnswers", "Judgement", "OwnAnswers", "Record"]

#: How much an output of a file that is not ours may move between batch sizes, as a share of its largest value.
MAX_MOVE = 1e-3
OWN = "own"

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Judgement:
    """What the outputs of one inference are worth.

    Args:
        noise_ratio: The worst one; of a file that is not ours, the move over the one that is let pass.
        passed: Whether the gate would let them pass.
        is_wrong: Whether they are further off than the arithmetic of float32 brings anybody, be it in another order.
    """

    noise_ratio: float
    passed: bool
    is_wrong: bool


class Record(Protocol):
    """Samples by kind, and a judgement of what is made of them."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds."""

    def count(self, kind: str) -> int:
        """How many samples of a kind."""

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Compare what they came to."""


class GoldenAnswers:
    """A bundle's golden record, without its images of one value: those are nobody's load.

    Args:
        golden: The record.
        signature: Of the bundle.
    """

    def __init__(self, golden: GoldenRecord, signature: AnySignature) -> None:
        self.golden, self.signature = golden, signature
        self.kinds = tuple(kind for kind in golden.inputs if kind != CONSTANT)

    def count(self, kind: str) -> int:
        """How many samples of a kind."""
        return num_samples(self.golden.inputs[kind])

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""
        return check_feed(take(self.golden.inputs[kind], index), self.signature)

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Hold them against the float64 reference, in PyTorch's noise."""
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
        return Judgement(max(row.noise_ratio for row in rows), passed, not passed and not is_near)


class OwnAnswers:
    """What a model gave when it was asked first.

    Args:
        samples: Input name -> samples.
        answers: Outputs for them, in the file's order.
    """

    kinds = (OWN,)

    def __init__(self, samples: Arrays, answers: Sequence[NDArray[Any]]) -> None:
        self.samples, self.answers = samples, answers

    def count(self, kind: str) -> int:
        """How many samples."""
        return len(next(iter(self.samples.values())))

    def take(self, kind: str, index: NDArray[np.intp]) -> Arrays:
        """Some of them: input name -> array."""
        return {name: array[index] for name, array in self.samples.items()}

    def judge(self, kind: str, index: NDArray[np.intp], outputs: Sequence[NDArray[Any]]) -> Judgement:
        """Hold them against the first answers. Outputs without a batch axis cannot be."""
        ratios = [
            _move(np.asarray(output), answer[index])
            for output, answer in zip(outputs, self.answers, strict=True)
            if answer.ndim and len(answer) == self.count(kind) and output.shape[1:] == answer.shape[1:]
        ]
        worst = max(ratios, default=0.0)
        return Judgement(worst, worst <= 1, worst > 1)


def _move(output: NDArray[Any], answer: NDArray[Any]) -> float:
    """The largest change over the one that is let pass; NaN counts as no answer, unless it was one."""
    if output.shape != answer.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):
        moves = np.abs(output.astype(np.float64) - answer.astype(np.float64))
    moves = np.where(np.isnan(output) & np.isnan(answer) if output.dtype.kind == "f" else False, 0.0, moves)
    scale = float(np.abs(answer.astype(np.float64)).max(initial=0.0)) or 1.0
    worst = float(moves.max(initial=0.0)) / (MAX_MOVE * scale)
    return worst if worst == worst else float("inf")
