"""Evaluation: predictions beside the truth, and the figures that follow from the two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import DataError, Refusal
from onward.statistics import wilson_interval

__all__ = ["CLASS_COLUMNS", "Bin", "ClassFigures", "Evaluation", "Mistake", "class_rows"]

NUM_BINS = 15
NUM_LISTED = 24
#: Probabilities below the smallest normal float32 are taken for it: the loss of one image is at most 87.3.
SMALLEST = float(np.finfo(np.float32).tiny)
#: What `class_rows` has in its rows; a leading `>` sets a column to the right, as `onward.cli.console` has it.
CLASS_COLUMNS = ("class", ">images", ">recall", ">precision", ">F1", "most often taken for")


@dataclass(frozen=True)
class ClassFigures:
    """One figure a class each; all arrays are `(classes,)`.

    Args:
        num_images: Images that are of the class.
        num_predicted: Images that were taken for it.
        recall: Share of its images that were recognized; NaN where it has none.
        precision: Share of what was taken for it that is of it; NaN where nothing was.
        f1: Harmonic mean of the two, 0 where nothing was right; NaN where it has no image and nothing was taken for it.
    """

    num_images: NDArray[np.int64]
    num_predicted: NDArray[np.int64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]

    def macro(self, name: str) -> float:
        """Mean of `recall`, `precision` or `f1` over the classes that have images.

        One of them that nothing was taken for counts as a precision of 0: to leave it out would reward a network for
        never naming it. Source: scikit-learn, `precision_recall_fscore_support` at its default `zero_division`.
        """
        figures: NDArray[np.float64] = getattr(self, name)
        return float(np.nan_to_num(figures[self.num_images > 0]).mean())


@dataclass(frozen=True)
class Bin:
    """Images of about the same confidence.

    Args:
        low: Confidences in it are above this,
        high: and at most this.
        num_images: How many.
        mean_confidence: NaN of an empty bin.
        accuracy: NaN of an empty bin.
    """

    low: float
    high: float
    num_images: int
    mean_confidence: float
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """How often one class was taken for another.

    Args:
        true: The class that it is.
        predicted: The class that it was taken for.
        num_images: How many.
    """

    true: int
    predicted: int
    num_images: int


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is on labelled images.

    The most probable class is the prediction; of equally probable ones the first, as argmax has it. So a network that
    has learned nothing and gives every class the same gets the accuracy of class 0, not that of a guess.

    Args:
        probabilities: float32 `(count, classes)`.
        targets: int64 `(count,)`.
        indices: int64 `(count,)`, where each image is in its split; None where all of it is here, in its order.

    Raises:
        DataError: There is no image, or a target is no class.
        Refusal: A probability is NaN or infinite: argmax would take the first NaN for the most probable, and a
            network that has diverged would get the accuracy of class 0.
    """

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    indices: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, num_classes = self.probabilities.shape
        if not len(self.targets):
            raise DataError("there is no image to evaluate; expected at least one that can be read.")
        if len(self.targets) != count:
            raise DataError(
                f"there are {count} rows of probabilities and {len(self.targets)} targets, expected as many."
            )
        if self.targets.min() < 0 or self.targets.max() >= num_classes:
            raise DataError(
                f"targets are from {self.targets.min()} to {self.targets.max()}, the network has "
                f"{num_classes} classes, expected 0 to {num_classes - 1}."
            )
        unusable = np.flatnonzero(~np.isfinite(self.probabilities).all(1))
        if len(unusable):
            raise Refusal(
                f"the network's probabilities are NaN or infinite for {len(unusable):,} of {count:,} images, number "
                f"{self.index_of(int(unusable[0]))} the first: it diverged in training, or overflows here."
            )

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return int(self.probabilities.shape[1])

    def index_of(self, row: int) -> int:
        """Where the image of a row is in its split."""
        return row if self.indices is None else int(self.indices[row])

    @cached_property
    def predicted(self) -> NDArray[np.integer]:
        """The most probable class of each image."""
        indices: NDArray[np.integer] = np.argmax(self.probabilities, 1)
        return indices

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the most probable class of each image, float32 `(count,)`."""
        highest: NDArray[np.float32] = self.probabilities.max(1)
        return highest

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the true one."""
        return float((self.predicted == self.targets).mean())

    @property
    def interval_95(self) -> tuple[float, float]:
        """Wilson's interval for the accuracy."""
        return wilson_interval(int((self.predicted == self.targets).sum()), len(self.targets))

    @property
    def loss(self) -> float:
        """Mean negative logarithm of the true class's probability.

        It is computed from float32 probabilities, not from logits: one below the smallest normal float32 is taken for
        that, so no image counts for more than 87.3, where cross-entropy from logits has no such bound.
        """
        own = self.probabilities[np.arange(len(self.targets)), self.targets].astype(np.float64)
        return float(-np.log(np.maximum(own, SMALLEST)).mean())

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Counts: true classes down, predicted classes across."""
        size = self.num_classes
        return np.bincount(self.targets * size + self.predicted, minlength=size * size).reshape(size, size)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """How many classes stand before the true one, int64 `(count,)`: 0 where the prediction is right.

        By falling probability, of equals the lower class first: the order of a stable argsort, and that of argmax, so
        that the first place agrees with the accuracy, without sorting a thousand classes an image.
        """
        own = np.take_along_axis(self.probabilities, self.targets[:, None], 1)
        is_lower = np.arange(self.num_classes) < self.targets[:, None]
        is_before = (self.probabilities > own) | (self.probabilities == own) & is_lower
        return np.asarray(is_before.sum(1), np.int64)

    def top_k_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the k most probable; of equals the lower class goes first."""
        return float((self.places < k).mean())

    @cached_property
    def by_class(self) -> ClassFigures:
        """Recall, precision and F1 of each class."""
        right, there, taken = np.diag(self.confusion), self.confusion.sum(1), self.confusion.sum(0)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, and meant
            return ClassFigures(there, taken, right / there, right / taken, 2 * right / (there + taken))

    @cached_property
    def calibration_bins(self) -> tuple[Bin, ...]:
        """15 equally wide bins of the confidence, each with its accuracy: a reliability diagram.

        Source: C. Guo and others, "On calibration of modern neural networks", 2017: bins are open below.
        """
        edges = np.arange(NUM_BINS + 1) / NUM_BINS
        confidence, is_right = self.confidence.astype(np.float64), self.predicted == self.targets
        places = np.searchsorted(edges[1:-1], confidence)
        counts, confidences, rights = (
            np.bincount(places, weights, minlength=NUM_BINS) for weights in (None, confidence, is_right)
        )
        with np.errstate(invalid="ignore"):  # an empty bin has no mean
            columns = (edges[:-1], edges[1:], counts, confidences / counts, rights / counts)
        return tuple(Bin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean over the images of |accuracy − confidence| of their bin.

        0 where of all predictions made with a confidence of 80 %, 80 % are right, and so on. It is above 0 for a
        finite number of images even then.

        Source: M. P. Naeini and others, "Obtaining well calibrated probabilities using Bayesian binning", 2015;
        C. Guo and others, "On calibration of modern neural networks", 2017, whose 15 bins these are.
        """
        gaps = [item.num_images * abs(item.accuracy - item.mean_confidence) for item in self._filled_bins]
        return sum(gaps) / len(self.targets)

    @property
    def _filled_bins(self) -> list[Bin]:
        return [item for item in self.calibration_bins if item.num_images]

    def worst_mistakes(self, count: int) -> NDArray[np.int64]:
        """Rows of the mistakes made with the highest confidence, the highest first; of equals the lower row."""
        wrong = np.flatnonzero(self.predicted != self.targets)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")[:count]]

    def most_confused(self, count: int) -> list[Mistake]:
        """The most frequent mistakes, the most frequent first; of equals the lower true, then predicted class."""
        counts = self.confusion * ~np.eye(self.num_classes, dtype=bool)
        order = np.argsort(-counts, axis=None, kind="stable")[: min(count, np.count_nonzero(counts))]
        return [
            Mistake(int(true), int(predicted), int(counts[true, predicted]))
            for true, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """All figures, in Python's own types; NaN where there is none, e.g. the top 3 of 3 classes."""
        figures = self.by_class
        return {
            "num_images": len(self.targets),
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval_95),
            **{f"top_{k}_accuracy": self.top_k_accuracy(k) if k < self.num_classes else math.nan for k in (3, 5)},
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            **{f"macro_{name}": figures.macro(name) for name in ("recall", "precision", "f1")},
            "num_images_by_class": figures.num_images.tolist(),
            **{name: getattr(figures, name).tolist() for name in ("recall", "precision", "f1")},
            "confusion": self.confusion.tolist(),
            "calibration_bins": [asdict(item) for item in self.calibration_bins],
            "most_confused": [asdict(item) for item in self.most_confused(NUM_LISTED)],
            "worst_mistakes": [self._describe(row) for row in self.worst_mistakes(NUM_LISTED).tolist()],
        }

    def _describe(self, row: int) -> dict[str, Any]:
        predicted = int(self.predicted[row])
        return {
            "index": self.index_of(row),
            "true": int(self.targets[row]),
            "predicted": predicted,
            "confidence": float(self.probabilities[row, predicted]),
        }


def class_rows(evaluation: Evaluation, labels: Sequence[str], *, count: int | None = None) -> list[list[str]]:
    """The table of classes, with the columns `CLASS_COLUMNS`; a figure that there is none of is `–`.

    Args:
        evaluation: What to show.
        labels: One a class.
        count: At most so many rows: where there are more classes, those with the lowest F1, the lowest first,
            and after them those that have no image. By default all, in their own order.
    """
    figures, order = evaluation.by_class, np.arange(evaluation.num_classes)
    if count is not None and count < len(order):
        order = np.lexsort((figures.f1, figures.num_images == 0))[:count]  # what is not there cannot be missed
    return [
        [labels[index], f"{figures.num_images[index]:,}"]
        + [_percent(float(getattr(figures, name)[index])) for name in ("recall", "precision", "f1")]
        + [_taken_for(evaluation, index, labels)]
        for index in order.tolist()
    ]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"


def _taken_for(evaluation: Evaluation, index: int, labels: Sequence[str]) -> str:
    row = evaluation.confusion[index].copy()
    row[index] = 0
    other = int(row.argmax())
    return f"{labels[other]} ({row[other]:,})" if row[other] else "–"
