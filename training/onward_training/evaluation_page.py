"""Evaluation page: metrics, learning curves, confusions, calibration and the most confident mistakes, as HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onward import __version__
from onward.report import Page
from onward.report.charts import heatmap, lines, reliability
from onward.report.page import UNCERTAIN, Tile, png_data_uri
from onward.signature import Signature
from onward_training.checkpoint import Epoch
from onward_training.evaluation import CLASS_COLUMNS, Evaluation, class_rows

__all__ = ["write_evaluation_page"]

NUM_CARDS = 24
NUM_ROWS = 30
NUM_PAIRS = 12
NUM_HEATMAP = 20
HEATMAP_LETTERS, TABLE_LETTERS = 12, 32
TOP_K = 3


def write_evaluation_page(
    path: Path,
    evaluation: Evaluation,
    *,
    signature: Signature,
    images: Callable[[int], NDArray[np.uint8]],
    title: str,
    file_of: Callable[[int], str] = lambda index: "",
    history: Sequence[Epoch] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write the page: one file that loads nothing from the network.

    Args:
        path: The file.
        evaluation: What it shows.
        signature: Gives the labels.
        images: Index of an image in the evaluated split -> uint8 `(height, width, channels)`; called 24 times at
            most.
        title: The heading.
        file_of: Index of an image in the evaluated split -> its file; empty if it has none.
        history: Of the training; if empty, there are no learning curves.
        notes: What a reader must know about these metrics, e.g. how many images were unreadable; one sentence each.

    Raises:
        OutputError: The file cannot be written, or the disk is full.
    """
    low, high = evaluation.interval_95
    page = Page(
        title,
        f"{evaluation.accuracy:.2%} of {len(evaluation.targets):,} images are classified correctly "
        f"(95 % interval: {low:.2%} to {high:.2%}).",
    )
    _tiles(page, evaluation)
    if notes:
        page.section("Notes", " ".join(notes))
    if history:
        _training(page, history)
    _overview(page, evaluation, signature.labels)
    short = [_shorten(label, TABLE_LETTERS) for label in signature.labels]
    _confusions(page, evaluation, short)
    _classes(page, evaluation, short)
    _mistakes(page, evaluation, signature.labels, images, file_of)
    page.footer(f"onward {__version__}. Made by `onward evaluate`. This file loads nothing from the network.")
    page.write(path)


def _tiles(page: Page, evaluation: Evaluation) -> None:
    low, high = evaluation.interval_95
    page.tiles(
        [
            (f"{evaluation.accuracy:.2%}", f"accuracy (95 %: {low:.1%} to {high:.1%})", ""),
            *(
                (
                    f"{evaluation.top_k_accuracy(k):.2%}",
                    f"top {k}: the true class is among the {k} most probable",
                    "",
                )
                for k in (3, 5)
                if k < evaluation.num_classes
            ),
            _calibration_tile(evaluation),
            (f"{evaluation.loss:.4f}", "mean loss (cross-entropy)", ""),
            (f"{len(evaluation.targets):,}", f"images of {evaluation.num_classes:,} classes", ""),
        ]
    )


def _calibration_tile(evaluation: Evaluation) -> Tile:
    """Grey where a calibrated network might have this calibration error by chance."""
    error, by_chance = evaluation.calibration_error, evaluation.calibration_error_by_chance
    if evaluation.is_calibration_shown:
        return f"{error:.2%}", "calibration error: confidence minus accuracy, on average", ""
    caption = f"calibration error; by chance, so few images give about {by_chance:.2%} to a calibrated network"
    return f"{error:.2%}", caption, UNCERTAIN


def _training(page: Page, history: Sequence[Epoch]) -> None:
    epochs = [epoch.epoch for epoch in history]
    losses = {
        "training": [epoch.train_loss for epoch in history],
        "validation": [epoch.validation_loss for epoch in history],
    }
    accuracies = {
        "training": [100 * epoch.train_accuracy for epoch in history],
        "validation": [100 * epoch.validation_accuracy for epoch in history],
    }
    if all(math.isnan(epoch.train_accuracy) for epoch in history):  # an old checkpoint without it
        del accuracies["training"]
    has_zero = any(value <= 0 for line in losses.values() for value in line)
    best = max(history, key=lambda epoch: (epoch.validation_accuracy, -epoch.validation_loss))
    page.section(
        "Training",
        f"{len(history)} epochs; the best validation accuracy is {best.validation_accuracy:.2%}, in epoch "
        f"{best.epoch}.",
    )
    page.figures(
        [
            (
                "Mean loss: training during the epoch, validation after it",
                lines(losses, x=epochs, x_label="epoch", y_label="loss", log_y=not has_zero),
            ),
            (
                "Accuracy: training during the epoch, validation after it",
                lines(accuracies, x=epochs, x_label="epoch", y_label="accuracy, %"),
            ),
        ]
    )


def _overview(page: Page, evaluation: Evaluation, labels: Sequence[str]) -> None:
    """The confusion matrix and the reliability diagram."""
    page.section("Confusions and calibration", _confidence(evaluation))
    shown = _most_confused_classes(evaluation)
    caption = "Confusion matrix"
    if len(shown) < evaluation.num_classes:
        caption += (
            f" of {len(shown)} of the {evaluation.num_classes:,} classes, those with the most frequent "
            "confusions; images predicted as other classes are not counted"
        )
    bins = [(item.mean_confidence, item.accuracy, item.num_images) for item in evaluation.calibration_bins]
    page.figures(
        [
            (
                caption,
                heatmap(
                    evaluation.confusion[np.ix_(shown, shown)],
                    [_shorten(labels[index], HEATMAP_LETTERS) for index in shown],
                ),
            ),
            (
                "Reliability: accuracy by confidence. A bar below the diagonal is overconfident, one above it "
                "underconfident; a bar of few images is uncertain",
                reliability(bins),
            ),
        ]
    )


def _confidence(evaluation: Evaluation) -> str:
    """Whether the network is over- or underconfident, if there are enough images to tell."""
    gap, low, high = evaluation.overconfidence
    found = (
        f"The mean confidence is {np.nanmean(evaluation.confidence):.1%} and the accuracy {evaluation.accuracy:.1%}: "
    )
    if low <= 0 <= high:
        return found + f"{len(evaluation.targets):,} images do not show whether the network is over- or underconfident."
    word, (least, most) = ("over", (low, high)) if gap > 0 else ("under", (-high, -low))
    return found + (
        f"the network is {word}confident by {100 * abs(gap):.1f} points (95 % interval: {100 * least:.1f} to "
        f"{100 * most:.1f})."
    )


def _shorten(label: str, num_letters: int) -> str:
    return label if len(label) <= num_letters else label[: num_letters - 1] + "…"


def _most_confused_classes(evaluation: Evaluation) -> list[int]:
    """At most 20 classes, those with the most frequent confusions, in their order."""
    pairs = evaluation.most_confused(NUM_HEATMAP**2)  # so many pairs contain 20 classes, or there are no more
    confused = [index for pair in pairs for index in (pair.true, pair.predicted)]
    return sorted(list(dict.fromkeys([*confused, *range(evaluation.num_classes)]))[:NUM_HEATMAP])


def _confusions(page: Page, evaluation: Evaluation, labels: Sequence[str]) -> None:
    pairs = evaluation.most_confused(NUM_PAIRS)
    if not pairs:
        return
    num_mistakes = int((evaluation.predicted != evaluation.targets).sum())
    num_images = evaluation.by_class.num_images
    page.section("The most frequent confusions", f"There are {num_mistakes:,} mistakes.")
    page.table(
        ["true → predicted", "images", "share of the class", "share of all mistakes"],
        [
            [f"{labels[pair.true]} → {labels[pair.predicted]}", f"{pair.num_images:,}"]
            + [f"{pair.num_images / total:.1%}" for total in (num_images[pair.true], num_mistakes)]
            for pair in pairs
        ],
    )


def _classes(page: Page, evaluation: Evaluation, labels: Sequence[str]) -> None:
    is_cut = evaluation.num_classes > NUM_ROWS
    page.section(
        "Classes",
        "Recall: the share of a class's images that are predicted correctly. Precision: the share of the images "
        "predicted as the class that are of the class. F1: their harmonic mean; its average over the classes that have "
        f"images is {evaluation.by_class.macro('f1'):.1%}."
        + (f" These are the {NUM_ROWS} of {evaluation.num_classes:,} with the lowest F1." if is_cut else ""),
    )
    columns = [column.removeprefix(">") for column in CLASS_COLUMNS]
    page.table(columns, class_rows(evaluation, labels, count=NUM_ROWS))


def _mistakes(
    page: Page,
    evaluation: Evaluation,
    labels: Sequence[str],
    images: Callable[[int], NDArray[np.uint8]],
    file_of: Callable[[int], str],
) -> None:
    rows = evaluation.worst_mistakes(NUM_CARDS).tolist()
    if not rows:
        page.section("Mistakes", "There are none.")
        return
    page.section(
        "The most confident mistakes",
        "A tick marks the true class. Images with a wrong label in the data set show up here.",
    )
    page.cards(
        [
            (
                png_data_uri(images(evaluation.index_of(row))),
                f"{labels[evaluation.targets[row]]}, predicted as {labels[evaluation.predicted[row]]}",
                _bars(evaluation, row, labels),
                file_of(evaluation.index_of(row)),
            )
            for row in rows
        ]
    )


def _bars(evaluation: Evaluation, row: int, labels: Sequence[str]) -> list[tuple[str, float, bool]]:
    """The three most probable classes of an image; the true class replaces the third if it is not among them."""
    probabilities, truth = evaluation.probabilities[row], int(evaluation.targets[row])
    top = [int(place) for place in np.argsort(-probabilities, kind="stable")[:TOP_K]]
    if truth not in top:
        top[-1] = truth
    return [
        (("✓ " if place == truth else "") + labels[place], float(probabilities[place]), place == top[0])
        for place in top
    ]
