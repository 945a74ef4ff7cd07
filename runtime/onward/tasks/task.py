"""Task: what the rest of Onward asks about the outputs of a model.

The answers here hold for outputs of any meaning: the outputs themselves are the columns and the predictions, no row is
right or wrong, and the noise floor is as measured. A task overrides what it knows better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import NoAnswer, UsageError, some_of
from onward.fidelity import Budget, Fidelity
from onward.parity import Noise, Outputs
from onward.signature import AnySignature, Output
from onward.sinks.sink import Column, Columns

__all__ = ["LABELS_ARE", "NO_ANSWER", "NO_TARGET", "Task", "answered"]

#: Why a sample has no answer.
NO_ANSWER = "the model's outputs are NaN or infinite"
#: The target of a sample without a label.
NO_TARGET = -1
#: What labels that come with inputs may be said to be.
LABELS_ARE = (None, "names", "indices")
MAX_PLACES_SHOWN = 10


def answered(outputs: Outputs) -> NDArray[np.bool_]:
    """Which samples have outputs that are all finite, bool `(batch,)`.

    Args:
        outputs: Output name -> `(batch, *dims)`.
    """
    finite = [np.isfinite(array).all(tuple(range(1, array.ndim))) for array in outputs.values()]
    return np.asarray(np.logical_and.reduce(finite))


class Task:
    """What the outputs of a model mean.

    Args:
        signature: Of the model.

    Raises:
        SignatureError: The outputs are not those of the task.
    """

    #: What the share of samples that `agreement` counts is called.
    agreement_name = "agreement"

    def __init__(self, signature: AnySignature) -> None:
        self.signature = signature

    def no_outputs(self) -> dict[str, NDArray[Any]]:
        """The outputs of an empty batch; a dimension of any size is 0."""
        return {
            output.name: np.empty((0, *(size or 0 for size in self.signature.sizes(output))), output.dtype)
            for output in self.signature.outputs
        }

    def answered(self, outputs: Outputs) -> NDArray[np.bool_]:
        """Which samples have an answer, bool `(batch,)`: those whose outputs are all finite."""
        return answered(outputs)

    def check_answered(self, outputs: Outputs) -> None:
        """Check that every sample has an answer.

        Raises:
            NoAnswer: Some have none; its `places` are their indices.
        """
        places = np.flatnonzero(~self.answered(outputs)).tolist()
        if places:
            shown = some_of(places, MAX_PLACES_SHOWN)
            raise NoAnswer(
                f"{len(places):,} of {len(next(iter(outputs.values()))):,} inputs have no answer, because {NO_ANSWER}: "
                f"{'input' if len(places) == 1 else 'inputs'} {shown} (counted from 0). Leave them out.",
                places=tuple(places),
            )

    def predictions(self, outputs: Outputs) -> Any:
        """What `onward.load(...)(samples)` returns.

        Args:
            outputs: Output name -> `(batch, *dims)`.
        """
        return dict(outputs)

    def describe(self, outputs: Outputs, index: int) -> str:
        """What the outputs say of one sample, in a few words; nothing where they are too many numbers.

        Args:
            outputs: Output name -> `(batch, *dims)`.
            index: Of the sample.
        """
        return ", ".join(f"{name} {array[index]:.6g}" for name, array in outputs.items() if array.ndim == 1)

    def columns(self, options: Mapping[str, Any]) -> Columns:
        """What `onward predict` writes of each row.

        Args:
            options: What was asked for, by the name of the option.

        Raises:
            UsageError: An option is out of range, or an output has no fixed size.
        """
        columns = tuple(map(self._column, self.signature.outputs))
        return Columns(columns, array=columns[0])

    def values(self, outputs: Outputs, options: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The values of a batch for the columns that the same options give: column name -> `(batch, *dims)`."""
        return dict(outputs)

    def targets(self, labels: Sequence[str | None], labels_are: str | None = None) -> NDArray[np.int64]:
        """The targets that given labels mean, int64 `(samples,)`; `NO_TARGET` for what is no label of the model's.

        Args:
            labels: One per sample.
            labels_are: `names` or `indices`: what labels are that are no `ClassName`. With None they must not be both.

        Raises:
            UsageError: A label could be both, and `labels_are` is None.
        """
        return np.full(len(labels), NO_TARGET, np.int64)

    def count_correct(self, outputs: Outputs, targets: NDArray[np.int64]) -> int:
        """How many samples the model gives their target."""
        return 0

    def noise(self, reference: Mapping[str, NDArray[np.float64]], measured: Mapping[str, Noise]) -> dict[str, Noise]:
        """The noise of each output, from what was measured.

        Args:
            reference: Output name -> float64 `(samples, *dims)`.
            measured: Output name -> PyTorch's error against it, by `onward.parity.measure_noise`.
        """
        return dict(measured)

    def agreement(self, output: str, candidates: NDArray[np.float64], reference: NDArray[np.float64]) -> float | None:
        """The share of samples for which a candidate says the same as the reference; None where that means nothing.

        Args:
            output: The output's name.
            candidates: `(ways, samples, *dims)`: the same samples, computed in batches of other sizes.
            reference: `(samples, *dims)`.
        """
        return None

    def fidelity(
        self,
        reference: Outputs,
        candidate: Outputs,
        targets: NDArray[np.int64] | None,
        noise: Mapping[str, Noise],
        budget: Budget | None = None,
    ) -> Fidelity:
        """What a candidate of lower precision loses against the float32 reference.

        Args:
            reference: Output name -> `(samples, *dims)`.
            candidate: The same samples by the candidate.
            targets: As `targets` gives them; None without labels.
            noise: Output name -> float32's own error.
            budget: What judges it; by default `Budget()`.

        Raises:
            UsageError: The task has no budget, or the arrays do not fit.
        """
        raise UsageError(f"what the task {self.signature.task!r} loses by a lower precision cannot be measured yet.")

    def _column(self, output: Output) -> Column:
        sizes = self.signature.sizes(output)
        fixed = tuple(size for size in sizes if size is not None)
        if len(fixed) < len(sizes):
            raise UsageError(f"output {output.name!r} has dims {output.dims}: a row needs a fixed size.")
        return Column(output.name, output.dtype, fixed)
