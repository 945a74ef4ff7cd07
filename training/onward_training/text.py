"""Text: what training and evaluation say in a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from onward.cli.console import print_table, remark, say
from onward.errors import some_of

if TYPE_CHECKING:
    from onward_training.checkpoint import Epoch
    from onward_training.data import Dataset
    from onward_training.evaluation import Evaluation

__all__ = [
    "print_epoch",
    "print_evaluation",
    "print_failures",
    "print_missing",
    "print_notes",
    "print_unanswered",
]

MAX_CLASSES_SHOWN = 30
MAX_MISSING_SHOWN = 10
MAX_MISTAKES_SHOWN = 5


def print_epoch(epoch: Epoch) -> None:
    """One line for an epoch, on standard error."""
    remark(
        f"epoch {epoch.epoch:>3}  training: loss {epoch.train_loss:.4f}, {epoch.train_accuracy:.2%}  "
        f"validation: loss {epoch.validation_loss:.4f}, {epoch.validation_accuracy:.2%}  {epoch.elapsed_s:.1f} s"
    )


def print_evaluation(
    evaluation: Evaluation, labels: tuple[str, ...], file_of: Callable[[int], str] = lambda index: ""
) -> None:
    """A table of the classes, one of the most confident mistakes where images have files, then the accuracy."""
    from onward_training.evaluation import CLASS_COLUMNS, class_rows

    low, high = evaluation.interval_95
    rows = class_rows(evaluation, labels, count=MAX_CLASSES_SHOWN)
    print_table(CLASS_COLUMNS, rows)
    if len(rows) < len(labels):
        say(f"the {len(rows)} of {len(labels)} classes with the lowest F1; --json prints all")
    _print_mistakes(evaluation, labels, file_of)
    print_unanswered(evaluation)
    print_missing(evaluation, labels)
    top = "".join(f", top {k} {evaluation.top_k_accuracy(k):.2%}" for k in (3, 5) if k < len(labels))
    say(
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}){top}, loss {evaluation.loss:.4f}, "
        f"calibration error {evaluation.calibration_error:.2%}, {len(evaluation.targets):,} images"
    )


def _print_mistakes(evaluation: Evaluation, labels: tuple[str, ...], file_of: Callable[[int], str]) -> None:
    worst = evaluation.worst_mistakes(MAX_MISTAKES_SHOWN).tolist()
    rows = [
        [file, labels[evaluation.targets[row]], labels[evaluation.predicted[row]], f"{evaluation.confidence[row]:.1%}"]
        for row in worst
        if (file := file_of(evaluation.index_of(row)))
    ]
    if rows:
        print_table(["most confident mistakes", "true", "predicted", ">confidence"], rows)


def print_unanswered(evaluation: Evaluation) -> None:
    """How many images have no answer, if any."""
    from onward.tasks.task import NO_ANSWER

    if evaluation.num_unanswered:
        say(f"{evaluation.num_unanswered:,} images without an answer, because {NO_ANSWER}: they count as wrong")


def print_missing(evaluation: Evaluation, labels: tuple[str, ...]) -> None:
    """The classes without an image, if there are some."""
    missing = [labels[index] for index in evaluation.missing_classes]
    if missing:
        shown = some_of(missing, MAX_MISSING_SHOWN)
        say(f"{len(missing):,} of {len(labels):,} classes have no image here: {shown}")


def print_notes(dataset: Dataset) -> None:
    """What was found in the data set, on standard error."""
    for note in dataset.notes:
        remark(note)


def print_failures(dataset: Dataset) -> None:
    """How many images of a folder that is not in memory turned out to be unreadable."""
    from onward_training.data import FileSplit

    splits = (dataset.train, dataset.validation, dataset.test)
    failures = {file: why for split in splits if isinstance(split, FileSplit) for file, why in split.failures.items()}
    if failures:
        file, why = next(iter(failures.items()))
        remark(f"{len(failures):,} images could not be read and were left out, e.g. {file}: {why}")
