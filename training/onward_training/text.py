"""Text: what training and evaluation say in a terminal."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onward.cli.console import print_table, remark, say
from onward.errors import some_of

if TYPE_CHECKING:
    from onward_training.checkpoint import Checkpoint, Epoch
    from onward_training.data import Dataset
    from onward_training.evaluation import Evaluation
    from onward_training.run_summary import RunSummary

__all__ = [
    "EpochPrinter",
    "is_at_chance",
    "print_epoch",
    "print_evaluation",
    "print_failures",
    "print_missing",
    "print_notes",
    "print_result",
    "print_summary",
    "print_unanswered",
]

MAX_CLASSES_SHOWN = 30
MAX_MISSING_SHOWN = 10
#: So many epochs with a loss above this share of the loss of guessing are worth a word.
NUM_AT_CHANCE, AT_CHANCE = 3, 0.98
SHORTEST_LEFT_S = 5.0
#: With fewer steps in an epoch, a smaller batch may be what training lacks.
MANY_STEPS = 10
MAX_MISTAKES_SHOWN = 5


def print_summary(summary: RunSummary) -> None:
    """What a run is about to do, on standard error."""
    for word, text in summary.rows():
        remark(f"{word:<8} {text}")
    if summary.unused_device is not None:
        remark(f"{'':<8} this machine has {summary.unused_device}, too: --device auto uses it")


def print_epoch(epoch: Epoch, after: str = "") -> None:
    """One line for an epoch, on standard error."""
    remark(
        f"epoch {epoch.epoch:>3}  training: loss {epoch.train_loss:.4f}, {epoch.train_accuracy:.2%}  "
        f"validation: loss {epoch.validation_loss:.4f}, {epoch.validation_accuracy:.2%}  {epoch.elapsed_s:.1f} s{after}"
    )


class EpochPrinter:
    """Prints each epoch: whether it is the best so far, the time that is left, and a word if nothing is learned.

    Args:
        history: The epochs of the run that is resumed.
        num_epochs: Of the whole run; early stopping may end it before.
        batch_path: The picture of the first batch, to look at if nothing is learned.
    """

    def __init__(self, history: Sequence[Epoch], num_epochs: int, batch_path: Path) -> None:
        self.history, self.num_epochs, self.batch_path = list(history), num_epochs, batch_path
        self.num_steps = MANY_STEPS
        self.num_resumed = len(self.history)
        self.chance_loss = math.inf
        self.began = time.perf_counter()

    def start(self, summary: RunSummary) -> None:
        """Print what the run is about to do."""
        self.chance_loss, self.num_steps = summary.chance_loss, summary.num_steps
        print_summary(summary)
        self.began = time.perf_counter()

    def __call__(self, epoch: Epoch) -> None:
        """Print one epoch."""
        is_best = all(epoch.is_better_than(other) for other in self.history)
        self.history.append(epoch)
        print_epoch(epoch, f"{'  best so far' if is_best else ''}{self._time_left()}")
        if is_at_chance(self.history, self.chance_loss) and not is_at_chance(self.history[:-1], self.chance_loss):
            few = f", or a smaller --batch-size: an epoch has {self.num_steps} steps" * (self.num_steps < MANY_STEPS)
            remark(
                f"the loss has stayed at {self.chance_loss:.2f}, what guessing gives, for {NUM_AT_CHANCE} epochs: the "
                f"network learns nothing. Look at {self.batch_path}, and try another --learning-rate{few}."
            )

    def _time_left(self) -> str:
        num_left = self.num_epochs - len(self.history)
        left_s = (time.perf_counter() - self.began) / (len(self.history) - self.num_resumed) * num_left
        if left_s < SHORTEST_LEFT_S:
            return ""
        return f"  about {math.ceil(left_s / 60)} min left" if left_s > 90 else f"  about {math.ceil(left_s)} s left"


def is_at_chance(history: Sequence[Epoch], chance_loss: float) -> bool:
    """Whether the losses of the last epochs are about what guessing gives, or worse."""
    last = history[-NUM_AT_CHANCE:]
    return len(last) == NUM_AT_CHANCE and all(
        min(epoch.train_loss, epoch.validation_loss) > AT_CHANCE * chance_loss for epoch in last
    )


def print_result(checkpoint: Checkpoint, evaluation: Evaluation, path: Path, num_epochs: int) -> None:
    """Which epoch is the best, where it is, and its test accuracy; and why there are fewer epochs than asked for."""
    print_unanswered(evaluation)
    print_missing(evaluation, checkpoint.signature.labels)
    best, count = checkpoint.provenance["best_epoch"], len(checkpoint.history)
    if count < num_epochs:
        say(f"stopped after epoch {count} of {num_epochs}: no epoch since {best} was better (--patience)")
    accuracy = checkpoint.history[best - 1].validation_accuracy
    say(f"best epoch: {best} of {count}, with a validation accuracy of {accuracy:.2%} → {path}")
    low, high = evaluation.interval_95
    say(
        f"test accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}, "
        f"{len(evaluation.targets):,} images)"
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
    calibration = f"calibration error {evaluation.calibration_error:.2%}"
    if not evaluation.is_calibration_shown:
        calibration += (
            f" (a calibrated network has about {evaluation.calibration_error_by_chance:.2%} on so few images)"
        )
    say(
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}){top}, loss {evaluation.loss:.4f}, "
        f"{calibration}, {len(evaluation.targets):,} images"
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
