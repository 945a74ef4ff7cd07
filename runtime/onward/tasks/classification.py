"""Classification: one label for each sample, with a probability for every class.

The network gives logits; the model adds their softmax as probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import SignatureError, UsageError
from onward.parity import MAX_RELATIVE_ERROR, Noise, Outputs
from onward.signature import AnySignature
from onward.sinks.sink import Column, Columns, ListEntry
from onward.tasks.task import NO_TARGET, Task

__all__ = [
    "LOGITS",
    "OUTPUTS",
    "PROBABILITIES",
    "Classification",
    "Predictions",
    "classes_by_name",
    "noise_of_probabilities",
    "rank",
]

#: Meanings of outputs, and their names where a signature says nothing else.
LOGITS, PROBABILITIES = OUTPUTS = ("logits", "probabilities")
#: The list that JSON Lines have where more than one class a row is asked for.
TOP = "top"


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of a batch.

    Args:
        labels: The most probable label of each image.
        indices: Its class index, int `(batch,)`.
        probabilities: float32 `(batch, classes)`.
        logits: float32 `(batch, classes)`.
    """

    labels: tuple[str, ...]
    indices: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.labels)


class Classification(Task):
    """One label for each sample: the class with the largest probability, of equal ones the first."""

    agreement_name = "top-1 agreement"

    def __init__(self, signature: AnySignature) -> None:
        super().__init__(signature)
        names = {output.meaning: output.name for output in signature.outputs}
        if set(names) != set(OUTPUTS):
            raise SignatureError(f"the outputs mean {sorted(names)}; a classifier gives {' and '.join(OUTPUTS)}.")
        self.logits, self.probabilities = names[LOGITS], names[PROBABILITIES]
        self.classes = classes_by_name(signature.labels)

    def predictions(self, outputs: Outputs) -> Predictions:
        """Labels, with all probabilities and logits."""
        indices = outputs[self.probabilities].argmax(1)
        labels = tuple(self.signature.labels[index] for index in indices)
        return Predictions(labels, indices, outputs[self.probabilities], outputs[self.logits])

    def describe(self, outputs: Outputs, index: int) -> str:
        """The label, with its probability."""
        probabilities = outputs[self.probabilities][index]
        label = int(probabilities.argmax())
        return f"{self.signature.labels[label]} ({float(probabilities[label]):.1%})"

    def columns(self, options: Mapping[str, Any]) -> Columns:
        """Label, index and probability of the `top_k` most probable classes; all logits where `logits` is asked for.

        An array holds all probabilities, or all logits.

        Raises:
            UsageError: Top-k is not 1 to the number of classes.
        """
        count, labels = options.get("top_k", 1), self.signature.labels
        if not 1 <= count <= len(labels):
            raise UsageError(f"--top-k is {count}, expected 1 to {len(labels)}, the number of classes.")
        columns: list[Column] = []
        for place, (label, index, probability) in enumerate(_names(count)):
            columns += [
                Column(label, "int32", categories=labels, item=ListEntry(TOP, place, "label")),
                Column(index, "int32", item=ListEntry(TOP, place, "index")),
                Column(probability, "float32", format=".6f", decimals=6, item=ListEntry(TOP, place, "probability")),
            ]
        logits = Column("logits", "float32", (len(labels),), cell="logit", format=".6g", decimals=6)
        if options.get("logits", False):
            return Columns((*columns, logits), array=logits)
        return Columns(tuple(columns), array=Column("probabilities", "float32", (len(labels),)))

    def values(self, outputs: Outputs, options: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The classes of each row by falling probability, and everything that an array may hold."""
        probabilities = outputs[self.probabilities]
        ranked = rank(probabilities, options.get("top_k", 1))
        highest = np.take_along_axis(probabilities, ranked, 1)
        values: dict[str, NDArray[Any]] = {"probabilities": probabilities, "logits": outputs[self.logits]}
        for place, (label, index, probability) in enumerate(_names(ranked.shape[1])):
            values |= {label: ranked[:, place], index: ranked[:, place], probability: highest[:, place]}
        return values

    def targets(self, labels: Sequence[str | None]) -> NDArray[np.int64]:
        """Class indices; a label may be given as its index, too."""
        found = (NO_TARGET if label is None else self.classes.get(label, NO_TARGET) for label in labels)
        return np.fromiter(found, np.int64, len(labels))

    def count_correct(self, outputs: Outputs, targets: NDArray[np.int64]) -> int:
        """How many samples have their target as the most probable class."""
        return int(((outputs[self.probabilities].argmax(1) == targets) & self.answered(outputs)).sum())

    def noise(self, reference: Mapping[str, NDArray[np.float64]], measured: Mapping[str, Noise]) -> dict[str, Noise]:
        """As measured; that of the probabilities no lower than the error of the logits makes it."""
        name = self.probabilities
        return {**measured, name: noise_of_probabilities(measured[name], reference[name], measured[self.logits])}

    def agreement(self, output: str, candidates: NDArray[np.float64], reference: NDArray[np.float64]) -> float | None:
        """Top-1: the share of samples whose largest value is of the reference's class."""
        return float((candidates.argmax(-1) == reference.argmax(-1)).mean())


def classes_by_name(labels: tuple[str, ...]) -> dict[str, int]:
    """Class index by label, and by the index itself as text; a label that reads as a number is meant as the label."""
    return {str(index): index for index in range(len(labels))} | {label: at for at, label in enumerate(labels)}


def rank(probabilities: NDArray[np.float32], top_k: int) -> NDArray[np.integer]:
    """Class indices of the `top_k` largest probabilities, largest first, ties by index: `(batch, top_k)`."""
    if top_k == 1:
        best: NDArray[np.integer] = np.argmax(probabilities, 1, keepdims=True)
        return best
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]


def noise_of_probabilities(measured: Noise, reference: NDArray[np.float64], logits: Noise) -> Noise:
    """The noise of probabilities, with a floor no lower than what the logits' own error makes of them.

    Where most probabilities are 0 or 1, the largest error is that of the one sample between two classes: PyTorch's own
    is then a matter of luck. To first order, an error of a logit moves its probability p by p(1 - p) times that error.

    Args:
        measured: By `measure_noise`, of the probabilities.
        reference: float64 probabilities `(samples, classes)`.
        logits: Of the logits of the same samples.
    """
    steepest = float((reference * (1 - reference)).max())
    # by itself it makes no model ill-conditioned
    floor = min(steepest * logits.floor, MAX_RELATIVE_ERROR * measured.scale)
    return replace(measured, floor=max(measured.floor, floor))


def _names(top_k: int) -> list[tuple[str, str, str]]:
    """The columns of label, index and probability, for each of the k classes of a row."""
    return [("label", "index", "probability")] + [
        (f"label_{place}", f"index_{place}", f"probability_{place}") for place in range(2, top_k + 1)
    ]
