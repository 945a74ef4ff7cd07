"""TensorBoard: a run's log is a folder with files of events.

The events are written here and not by `SummaryWriter`, whose thread prints a traceback when a disk is full. All numbers
of an epoch are one record of the file, so that a crash leaves all or none.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from onward.errors import OutputError, UsageError, install_command, reason_of
from onward.files import check_writable
from onward_training.loggers.logger import LOSS, LoggedRun, Status

__all__ = ["TensorBoardLogger"]

#: Every file of events begins its name with this. Source: tensorboard, `EventFileWriter`.
PREFIX = "events.out.tfevents"
#: Source: tensorboard, `EventFileWriter.__init__`.
FILE_VERSION = "brain.Event:2"
#: What the table of hyperparameters compares.
COMPARED = ("validation_accuracy", "validation_loss", "best_epoch")


class TensorBoardLogger:
    """Writes files of events.

    Args:
        folder: The folder with a folder for each run; None for one beside the checkpoint.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.place = Path()
        self.file: BinaryIO | None = None
        self.texts: dict[str, bytes] = {}

    @property
    def key(self) -> str:
        """Its name in messages, and in the file beside the checkpoint."""
        return "tensorboard" if self.folder is None else f"tensorboard:{self.folder}"

    def check(self) -> None:
        """Check that the folder can be written.

        Raises:
            OutputError: It cannot.
            UsageError: tensorboard is not installed.
        """
        try:
            from tensorboard.compat.proto import event_pb2  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"--logger {self.key} needs tensorboard: {install_command('tensorboard')} ({reason_of(error)})"
            ) from error
        if self.folder is not None:
            check_writable(self.folder / PREFIX)

    def open(self, run: LoggedRun, known: str | None) -> tuple[str, set[int]]:
        """Go on with the events in the folder `known`, or begin in a new one."""
        parent = run.folder.path.parent if self.folder is None else self.folder
        name = f"{run.name}.tensorboard" if self.folder is None else run.name
        found = known
        if found is None and run.overwrites and (found := run.earlier.get(self.key)) is not None:
            for file in (parent / _checked(found)).glob(f"{PREFIX}*"):
                file.unlink()
        found = _checked(found or next(_free_names(parent, name)))
        self.place = parent / found
        self.place.mkdir(parents=True, exist_ok=True)
        self._close()
        epochs, self.texts = _read(self.place)
        if not epochs:
            self._write_hyperparameters(run.options)
        self._write_text("options", _table(run.options), max(epochs, default=0))
        return found, epochs

    def describe(self) -> str:
        """Where people find the log that is open."""
        return f"{self.place}: `tensorboard --logdir {self.place.parent}` shows it"

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the numbers of one epoch."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        items = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write({"step": epoch, "summary": Summary(value=items)})

    def close(self, num_epochs: int, status: Status, outcome: Mapping[str, str]) -> None:
        """Write what became of the run, and close the file."""
        if outcome:
            self._write_text("outcome", _table(outcome), num_epochs)
        self._close()

    def _close(self) -> None:
        if self.file is not None:
            file, self.file = self.file, None
            with suppress(OSError):  # each record has been flushed; what the disk did not take is written again
                file.close()

    def _write(self, fields: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        events = [fields]
        if self.file is None:
            self.file = _new_file(self.place)
            events.insert(0, {"file_version": FILE_VERSION})
        for event in events:
            RecordWriter(self.file).write(Event(wall_time=time.time(), **event).SerializeToString())
        self.file.flush()

    def _write_text(self, name: str, text: str, step: int) -> None:
        """Write a text in Markdown, unless it is there already."""
        from torch.utils.tensorboard.summary import text as text_summary

        summary = text_summary(name, text)
        (value,) = summary.value
        if self.texts.get(value.tag) != value.tensor.string_val[0]:
            self._write({"step": step, "summary": summary})

    def _write_hyperparameters(self, options: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(options), dict.fromkeys(COMPARED, 0.0)):
            self._write({"summary": summary})


def _checked(name: str) -> str:
    """The name of a folder, which is not somewhere else."""
    if Path(name).name != name:
        raise OutputError(f"the name of TensorBoard's folder is {name!r}, expected one without a path.")
    return name


def _free_names(parent: Path, name: str) -> Iterator[str]:
    """`fashion`, `fashion-2`, `fashion-3` …, those that hold nothing yet."""
    number = 1
    while True:
        found = name if number == 1 else f"{name}-{number}"
        place = parent / found
        if not place.exists() or (place.is_dir() and not any(place.iterdir())):
            yield found
        number += 1


def _new_file(place: Path) -> BinaryIO:
    """A new file of events; TensorBoard reads them in the order of their names."""
    number = 0
    while True:
        path = place / f"{PREFIX}.{int(time.time()):010d}.{os.getpid()}.{number}"
        try:
            return path.open("xb")
        except FileExistsError:
            number += 1


def _read(place: Path) -> tuple[set[int], dict[str, bytes]]:
    """What the files of a folder hold: the numbers of the epochs, and the latest text of each tag."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    epochs: set[int] = set()
    texts: dict[str, bytes] = {}
    for path in sorted(place.glob(f"{PREFIX}*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag == LOSS:
                    epochs.add(event.step)
                elif value.tensor.string_val:
                    texts[value.tag] = value.tensor.string_val[0]
    return epochs, texts


def _table(values: Mapping[str, Any]) -> str:
    """A table in Markdown."""
    rows = (f"| {name} | {str(value).replace('|', chr(92) + '|')} |" for name, value in values.items())
    return "\n".join(["| | |", "| --- | --- |", *rows])
