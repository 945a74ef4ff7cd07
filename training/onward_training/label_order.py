"""Label order: whether the labels of a network stand in the order of its outputs.

A network gives numbers; which label belongs to which of them is stated beside it, and nothing in the weights says
whether that is true. Labelled images do: where another order fits far better, the stated one is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import some_of
from onward.statistics import wilson_interval

__all__ = ["LabelOrder", "check_label_order"]

#: Another order fits far better if its accuracy is higher by so much, and the 95 % intervals do not meet.
FAR = 0.2
MAX_SHOWN = 12
ALPHABETICAL, NUMERIC = "alphabetical order", "numeric order"

Order = NDArray[np.int64]


@dataclass(frozen=True)
class LabelOrder:
    """What labelled images say about the order of the labels.

    Args:
        num_images: Labelled images; 0 if there were none.
        num_correct: Of these, images that get their label.
        better: A far better order of the labels; None if there is none.
        better_accuracy: The accuracy with it.
        warning: What is probably wrong, in a sentence; empty if nothing is.
    """

    num_images: int = 0
    num_correct: int = 0
    better: tuple[str, ...] | None = None
    better_accuracy: float | None = None
    warning: str = ""

    @property
    def accuracy(self) -> float | None:
        """The share of the images that get their label; None without images."""
        return self.num_correct / self.num_images if self.num_images else None

    def to_json(self) -> dict[str, Any]:
        """As in parity.json, and in what `evaluate --json` prints."""
        return {
            "num_images": self.num_images,
            "num_correct": self.num_correct,
            "accuracy": self.accuracy,
            "better_order": None if self.better is None else list(self.better),
            "better_accuracy": self.better_accuracy,
            "warning": self.warning or None,
        }


def check_label_order(
    labels: Sequence[str], predicted: NDArray[np.integer] | None = None, targets: NDArray[np.integer] | None = None
) -> LabelOrder:
    """Look for an order of the labels that fits better.

    Three orders are tried: the alphabetical one, the numeric one, and the one that fits a random half of the images
    best; its accuracy is that of the other half.

    Args:
        labels: In the order of the outputs, as stated.
        predicted: Index of the largest output of each image; negative for an image without an answer.
        targets: Index of each image's label. Without images, only the labels themselves are looked at.
    """
    stated = tuple(labels)
    if predicted is None or targets is None or not len(targets):
        return LabelOrder(warning=_not_numeric(stated, "no labelled images were at hand to tell"))
    own = _is_correct(np.arange(len(stated)), predicted, targets)
    num_images, num_correct = len(targets), int(own.sum())
    tried = [(name, order, _is_correct(order, predicted, targets), own) for name, order in _usual_orders(stated)]
    one, other = np.array_split(np.random.default_rng(0).permutation(num_images), 2)
    fitted = _fit(predicted[one], targets[one], len(stated))
    tried.append(("order that fits best", fitted, _is_correct(fitted, predicted[other], targets[other]), own[other]))
    for name, order, found, same in tried:
        if _is_far_better(found, same):
            better, accuracy = tuple(stated[index] for index in order), float(found.mean())
            return LabelOrder(num_images, num_correct, better, accuracy, (
                f"the labels are probably in the wrong order: {num_correct / num_images:.2%} of {num_images:,} images "
                f"get their label, and {accuracy:.2%} with the {name}: {some_of(better, MAX_SHOWN)}. If that is the "
                f"order in which the network was trained, state the labels so (--labels of export)."
            ))  # fmt: skip
    warning = ""
    numeric = dict(_usual_orders(stated)).get(NUMERIC)
    if numeric is not None and not _is_far_better(own, _is_correct(numeric, predicted, targets)):
        warning = _not_numeric(stated, f"{num_images:,} labelled images do not tell")
    return LabelOrder(num_images, num_correct, warning=warning)


def _usual_orders(labels: tuple[str, ...]) -> list[tuple[str, Order]]:
    """Output -> index of its label, for the usual orders that are not the stated one."""
    orders = {ALPHABETICAL: sorted(labels), NUMERIC: sorted(labels, key=_by_number)}
    return [
        (name, np.array([labels.index(label) for label in order]))
        for name, order in orders.items()
        if tuple(order) != labels
    ]


def _by_number(label: str) -> list[tuple[int, str]]:
    """Sorts `x2` before `x10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,18})", label) if part]


def _fit(predicted: NDArray[np.integer], targets: NDArray[np.integer], num_classes: int) -> Order:
    """Output -> the label that its images have most often, each label once: the most frequent pairs first."""
    order = np.full(num_classes, -1)
    answered = predicted >= 0
    pairs, counts = np.unique(np.stack([predicted, targets])[:, answered], axis=1, return_counts=True)
    free = dict.fromkeys(range(num_classes))
    for place in np.argsort(-counts, kind="stable"):
        output, label = pairs[:, place].tolist()
        if order[output] < 0 and label in free:
            order[output] = label
            del free[label]
    order[order < 0] = list(free)
    return order


def _is_correct(order: Order, predicted: NDArray[np.integer], targets: NDArray[np.integer]) -> NDArray[np.bool_]:
    return np.asarray((order[predicted] == targets) & (predicted >= 0))


def _is_far_better(found: NDArray[np.bool_], other: NDArray[np.bool_]) -> bool:
    if not len(found) or found.mean() - other.mean() < FAR:
        return False
    lowest, _ = wilson_interval(int(found.sum()), len(found))
    _, highest = wilson_interval(int(other.sum()), len(other))
    return lowest > highest


def _not_numeric(labels: tuple[str, ...], why: str) -> str:
    """A warning if all labels are numbers that are not in numeric order."""
    are_numbers = all(label.isascii() and label.isdecimal() for label in labels)
    if not are_numbers or sorted(labels, key=_by_number) == [*labels]:
        return ""
    return (
        f"the labels are numbers, but not in numeric order: {some_of(labels, MAX_SHOWN)}. Check that the network was "
        f"trained in this order: {why}."
    )
