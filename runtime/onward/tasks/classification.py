"""Classification: one label for each sample, with a probability for every class.

The network gives logits; the model adds their softmax as probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import SignatureError, UsageError, some_of
from onward.fidelity import Budget, Fidelity
from onward.parity import MAX_RELATIVE_ERROR, Noise, Outputs
from onward.signature import AnySignature
from onward.sinks.sink import Column, Columns, ListEntry
from onward.sources.source import ClassName
from onward.tasks.class_fidelity import measure_fidelity
from onward.tasks.task import LABELS_ARE, NO_TARGET, Task

__all__ = [
    "LOGITS",
    "OUTPUTS",
    "PROBABILITIES",
    "Classification",
    "LabelColumn",
    "Predictions",
    "noise_of_probabilities",
    "rank",
]

#: Meanings of outputs, and their names where a signature says nothing else.
LOGITS, PROBABILITIES = OUTPUTS = ("logits", "probabilities")
#: The list that JSON Lines have where more than one class a row is asked for.
TOP = "top"
#: What labels that come with inputs are.
_, NAMES, INDICES = LABELS_ARE
MAX_LABELS_SHOWN = 5
#: A longer text of digits is no index, and Python refuses to read one of thousands.
MAX_DIGITS = 10


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
        self.label_column = LabelColumn(signature.labels)

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

    def targets(self, labels: Sequence[str | None], labels_are: str | None = None) -> NDArray[np.int64]:
        """Class indices, from names of classes or from indices."""
        found = (self.label_column.index_of(label, labels_are) for label in labels)
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

    def fidelity(
        self,
        reference: Outputs,
        candidate: Outputs,
        targets: NDArray[np.int64] | None,
        noise: Mapping[str, Noise],
        budget: Budget | None = None,
    ) -> Fidelity:
        """From the logits: see `onward.tasks.class_fidelity.measure_fidelity`."""
        floor = noise[self.logits].floor
        return measure_fidelity(
            self.signature.labels, reference[self.logits], candidate[self.logits], targets, floor, budget
        )


class LabelColumn:
    """Reads labels that come with inputs: names of classes, or their indices from 0.

    Where the model's labels are no numbers, or are their own indices, a number has one meaning. Else it could be both:
    of the classes 1, 2 … 12, `1` is the first by name and the second by index. The label of a folder is a name; what
    another label is, the user must say.

    Args:
        labels: The model's labels, in the order of the classes.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        numbers = {int(label): index for index, label in enumerate(labels) if _is_number(label)}
        #: A name may be written as another number of the same value: 1 for 01.
        self.names = {str(number): index for number, index in numbers.items()}
        self.names |= {label: index for index, label in enumerate(labels)}
        self.indices = {str(index): index for index in range(len(labels))}
        self.is_ambiguous = any(number != index for number, index in numbers.items())
        self.labels = labels

    def index_of(self, label: str | None, labels_are: str | None) -> int:
        """The class of a label, `NO_TARGET` for none.

        Raises:
            UsageError: It could be a name or an index.
        """
        if label is None:
            return NO_TARGET
        if isinstance(label, ClassName) and self.is_ambiguous:
            labels_are = NAMES
        if labels_are is None and self.is_ambiguous and _is_number(label):
            raise UsageError(
                f"the label {label!r} that comes with an input could be the name of a class or its index, because the "
                f"model's labels are numbers themselves: {some_of(self.labels, MAX_LABELS_SHOWN)}. Say which with "
                f"--labels-are names, or --labels-are indices (from 0)."
            )
        if labels_are == NAMES:
            return self.names.get(label, self.names.get(_plain(label), NO_TARGET))
        if labels_are == INDICES:
            return self.indices.get(_plain(label), NO_TARGET)
        return self.names.get(label, self.indices.get(_plain(label), NO_TARGET))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS


def _plain(label: str) -> str:
    """A number without leading zeros."""
    return str(int(label)) if _is_number(label) else label


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
