"""Evaluation: a classifier's predictions and the targets, and the metrics computed from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import DataError, Refusal
from onward.statistics import Z_95, wilson_interval

__all__ = ["CLASS_COLUMNS", "CalibrationBin", "ClassMetrics", "Confusion", "Evaluation", "class_rows"]

NUM_BINS = 15
NUM_LISTED = 24
#: A calibration error that is not more than so many times the one by chance shows nothing.
CHANCE_FACTOR = 2
#: Lower bound of a probability in the loss: the smallest normal float32, so one image adds 87.3 at most.
SMALLEST = float(np.finfo(np.float32).tiny)
#: The columns of `class_rows`; `onward.cli.console` aligns a column with a leading `>` to the right.
CLASS_COLUMNS = ("class", ">images", ">recall", ">precision", ">F1", "most often confused with")


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics by class; all arrays are `(classes,)`.

    Args:
        num_images: Images of the class.
        num_predicted: Images predicted as the class.
        recall: Share of its images that were predicted correctly; NaN if it has no image.
        precision: Share of the images predicted as the class that are of the class; NaN if there is none.
        f1: Harmonic mean of recall and precision, 0 if none is correct; NaN if there is no image and no prediction.
    """

    num_images: NDArray[np.int64]
    num_predicted: NDArray[np.int64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]

    def macro(self, name: str) -> float:
        """Mean of `recall`, `precision` or `f1` over the classes that have images.

        A class that was never predicted counts as precision 0: leaving it out would reward a network that never
        predicts it. Source: scikit-learn, `precision_recall_fscore_support` at its default `zero_division`.
        """
        values: NDArray[np.float64] = getattr(self, name)
        return float(np.nan_to_num(values[self.num_images > 0]).mean())


@dataclass(frozen=True)
class CalibrationBin:
    """Images with about the same confidence.

    Args:
        low: Confidences are above this.
        high: Confidences are at most this.
        num_images: Images in the bin.
        mean_confidence: NaN if the bin is empty.
        accuracy: NaN if the bin is empty.
    """

    low: float
    high: float
    num_images: int
    mean_confidence: float
    accuracy: float


@dataclass(frozen=True)
class Confusion:
    """How often one class was confused with another.

    Args:
        true: The true class.
        predicted: The predicted class.
        num_images: How often.
    """

    true: int
    predicted: int
    num_images: int


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is on labelled images.

    The prediction is the most probable class; of equally probable ones the first, as in argmax. So a network that gives
    every class the same probability has the accuracy of always predicting class 0, not that of a random guess.

    Args:
        probabilities: float32 `(count, classes)`.
        targets: int64 `(count,)`.
        indices: int64 `(count,)`, each image's index in its split; None if the whole split is here, in order.

    An image whose probabilities are NaN or infinite has no answer. It counts as wrong in the accuracies and in the
    recall, and is in none of loss, confidence, calibration and confusions.

    Raises:
        DataError: There is no image, or a target is not a class.
        Refusal: No image has an answer.
    """

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    indices: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, num_classes = self.probabilities.shape
        if not len(self.targets):
            raise DataError("there is no image to evaluate, expected at least one readable image.")
        if len(self.targets) != count:
            raise DataError(
                f"there are {count} rows of probabilities and {len(self.targets)} targets, expected equal numbers."
            )
        if self.targets.min() < 0 or self.targets.max() >= num_classes:
            raise DataError(
                f"targets are from {self.targets.min()} to {self.targets.max()}, expected 0 to {num_classes - 1}: the "
                f"network has {num_classes} classes."
            )
        if not self.is_answered.any():
            raise Refusal(
                f"the network's probabilities are NaN or infinite for all {count:,} images: it diverged in training, "
                f"or overflows here."
            )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    @cached_property
    def is_answered(self) -> NDArray[np.bool_]:
        """Whether the probabilities of each image are finite, bool `(count,)`."""
        return np.asarray(np.isfinite(self.probabilities).all(1))

    @property
    def num_unanswered(self) -> int:
        """Images without an answer."""
        return int((~self.is_answered).sum())

    @property
    def missing_classes(self) -> list[int]:
        """Indices of the classes without an image."""
        return [int(index) for index in np.flatnonzero(self.by_class.num_images == 0)]

    def index_of(self, row: int) -> int:
        """The index in the split of a row's image."""
        return row if self.indices is None else int(self.indices[row])

    @cached_property
    def predicted(self) -> NDArray[np.integer]:
        """The most probable class of each image; -1 for an image without an answer."""
        return np.where(self.is_answered, np.argmax(self.probabilities, 1), -1)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The probability of the most probable class of each image, float32 `(count,)`; NaN without an answer."""
        highest: NDArray[np.float32] = self.probabilities.max(1)
        return np.where(self.is_answered, highest, np.float32(np.nan))

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

        It is computed from float32 probabilities. They are clipped at the smallest normal float32, so an image adds at
        most 87.3; cross-entropy computed from logits has no such bound.
        """
        own = self.probabilities[np.arange(len(self.targets)), self.targets][self.is_answered].astype(np.float64)
        return float(-np.log(np.maximum(own, SMALLEST)).mean())

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """The confusion matrix: a row per true class, a column per predicted class."""
        size = self.num_classes
        pairs = (self.targets * size + self.predicted)[self.is_answered]
        return np.bincount(pairs, minlength=size * size).reshape(size, size)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """The rank of the true class by probability, int64 `(count,)`: 0 if the prediction is correct.

        Of equally probable classes, the lower one comes first, as in argmax and a stable argsort. No sorting is needed.
        Without an answer it is the number of classes.
        """
        own = np.take_along_axis(self.probabilities, self.targets[:, None], 1)
        is_lower = np.arange(self.num_classes) < self.targets[:, None]
        is_before = (self.probabilities > own) | (self.probabilities == own) & is_lower
        return np.where(self.is_answered, is_before.sum(1), self.num_classes)

    def top_k_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the k most probable; of equal ones the lower class comes first."""
        return float((self.ranks < k).mean())

    @cached_property
    def by_class(self) -> ClassMetrics:
        """Recall, precision and F1 of each class."""
        correct, num_predicted = np.diag(self.confusion), self.confusion.sum(0)
        num_images = np.bincount(self.targets, minlength=self.num_classes)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as documented
            return ClassMetrics(
                num_images,
                num_predicted,
                correct / num_images,
                correct / num_predicted,
                2 * correct / (num_images + num_predicted),
            )

    @cached_property
    def calibration_bins(self) -> tuple[CalibrationBin, ...]:
        """15 equally wide bins of the confidence, each with its accuracy: a reliability diagram.

        Source: C. Guo and others, "On calibration of modern neural networks", 2017: bins are open below.
        """
        edges = np.arange(NUM_BINS + 1) / NUM_BINS
        answered = self.is_answered
        confidence, is_correct = (
            self.confidence[answered].astype(np.float64),
            (self.predicted == self.targets)[answered],
        )
        places = np.searchsorted(edges[1:-1], confidence)
        counts, confidences, corrects = (
            np.bincount(places, weights, minlength=NUM_BINS) for weights in (None, confidence, is_correct)
        )
        with np.errstate(invalid="ignore"):  # an empty bin has no mean
            columns = (edges[:-1], edges[1:], counts, confidences / counts, corrects / counts)
        return tuple(CalibrationBin(*row) for row in zip(*(column.tolist() for column in columns), strict=True))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean over the images of |accuracy − confidence| of their bin.

        A network is calibrated if 80 % of its predictions with a confidence of 80 % are correct, and so on. Even then
        the error is above 0 for a finite number of images.

        Source: M. P. Naeini and others, "Obtaining well calibrated probabilities using Bayesian binning", 2015;
        C. Guo and others, "On calibration of modern neural networks", 2017, whose 15 bins these are.
        """
        gaps = [item.num_images * abs(item.accuracy - item.mean_confidence) for item in self._filled_bins]
        return sum(gaps) / int(self.is_answered.sum())

    @cached_property
    def calibration_error_by_chance(self) -> float:
        """About the calibration error that so many predictions of this confidence have if the network is calibrated.

        The number of correct ones in a bin is then a sum of independent trials, of mean absolute deviation √(2σ²/π).
        """
        confidence = self.confidence[self.is_answered].astype(np.float64)
        places = np.searchsorted(np.arange(1, NUM_BINS) / NUM_BINS, confidence)
        variances = np.bincount(places, confidence * (1 - confidence), minlength=NUM_BINS)
        return float(np.sqrt(2 * variances / np.pi).sum() / len(confidence))

    @property
    def is_calibration_shown(self) -> bool:
        """Whether a calibrated network would hardly have this calibration error by chance."""
        return self.calibration_error > CHANCE_FACTOR * self.calibration_error_by_chance

    @cached_property
    def overconfidence(self) -> tuple[float, float, float]:
        """Mean confidence minus accuracy, of the images with an answer, and its 95 % interval.

        Its standard error is that of the differences, or the one that a calibrated network would have, if that is more.
        """
        confidence = self.confidence[self.is_answered].astype(np.float64)
        gaps = confidence - (self.predicted == self.targets)[self.is_answered]
        squares = max(float(((gaps - gaps.mean()) ** 2).sum()), float((confidence * (1 - confidence)).sum()))
        margin = Z_95 * math.sqrt(squares) / len(gaps)
        return float(gaps.mean()), float(gaps.mean()) - margin, float(gaps.mean()) + margin

    @property
    def _filled_bins(self) -> list[CalibrationBin]:
        return [item for item in self.calibration_bins if item.num_images]

    def worst_mistakes(self, count: int) -> NDArray[np.int64]:
        """Rows of the mistakes with the highest confidence, in falling order; of equal ones the lower row first."""
        wrong = np.flatnonzero((self.predicted != self.targets) & self.is_answered)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")[:count]]

    def most_confused(self, count: int) -> list[Confusion]:
        """The most frequent confusions, in falling order; of equal ones the lower true, then predicted class first."""
        counts = self.confusion * ~np.eye(self.num_classes, dtype=bool)
        order = np.argsort(-counts, axis=None, kind="stable")[: min(count, np.count_nonzero(counts))]
        return [
            Confusion(int(true), int(predicted), int(counts[true, predicted]))
            for true, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        ]

    def to_json(self, file_of: Callable[[int], str] = lambda index: "") -> dict[str, Any]:
        """All metrics as plain data; NaN if one is undefined, e.g. the top-3 accuracy of 3 classes.

        Args:
            file_of: Index in the split -> the image's file; empty if it has none.
        """
        by_class = self.by_class
        return {
            "num_images": len(self.targets),
            "num_unanswered": self.num_unanswered,
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval_95),
            **{f"top_{k}_accuracy": self.top_k_accuracy(k) if k < self.num_classes else math.nan for k in (3, 5)},
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "calibration_error_by_chance": self.calibration_error_by_chance,
            "overconfidence": self.overconfidence[0],
            "overconfidence_interval_95": list(self.overconfidence[1:]),
            **{f"macro_{name}": by_class.macro(name) for name in ("recall", "precision", "f1")},
            "num_images_by_class": by_class.num_images.tolist(),
            **{name: getattr(by_class, name).tolist() for name in ("recall", "precision", "f1")},
            "confusion": self.confusion.tolist(),
            "calibration_bins": [asdict(item) for item in self.calibration_bins],
            "most_confused": [asdict(item) for item in self.most_confused(NUM_LISTED)],
            "worst_mistakes": [self._describe(row, file_of) for row in self.worst_mistakes(NUM_LISTED).tolist()],
        }

    def _describe(self, row: int, file_of: Callable[[int], str]) -> dict[str, Any]:
        predicted, file = int(self.predicted[row]), file_of(self.index_of(row))
        return {
            "index": self.index_of(row),
            **({"file": file} if file else {}),
            "true": int(self.targets[row]),
            "predicted": predicted,
            "confidence": float(self.probabilities[row, predicted]),
        }


def class_rows(evaluation: Evaluation, labels: Sequence[str], *, count: int | None = None) -> list[list[str]]:
    """The table of classes, with the columns `CLASS_COLUMNS`; an undefined metric is `–`.

    Args:
        evaluation: What to show.
        labels: One per class.
        count: Largest number of rows. If there are more classes, those with the lowest F1 in rising order; classes
            without an image come last. By default all classes, in their order.
    """
    by_class, order = evaluation.by_class, np.arange(evaluation.num_classes)
    if count is not None and count < len(order):
        order = np.lexsort((by_class.f1, by_class.num_images == 0))[:count]  # classes without an image last
    return [
        [labels[index], f"{by_class.num_images[index]:,}"]
        + [_percent(float(getattr(by_class, name)[index])) for name in ("recall", "precision", "f1")]
        + [_most_confused_with(evaluation, index, labels)]
        for index in order.tolist()
    ]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}"


def _most_confused_with(evaluation: Evaluation, index: int, labels: Sequence[str]) -> str:
    row = evaluation.confusion[index].copy()
    row[index] = 0
    other = int(row.argmax())
    return f"{labels[other]} ({row[other]:,})" if row[other] else "–"
