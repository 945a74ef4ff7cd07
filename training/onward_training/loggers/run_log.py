"""Run log: what a run writes to its loggers.

Nothing that a logger does may cost a training: what it raises is a remark, and it is tried again later. An epoch is
written where it is missing, so that a resumed run goes on in the same log, and a server that was away gets all epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from onward_training.loggers.logger import LoggedRun, Logger, Status, why

if TYPE_CHECKING:
    from onward_training.checkpoint import Checkpoint, Epoch

__all__ = ["RunLog"]

#: A logger that failed is left alone for so long, because it may have taken its time to fail.
RETRY_AFTER_S = 60.0


class RunLog:
    """The logs of one run.

    Args:
        run: The run.
        loggers: Where it is logged.
        notify: Called with where the logs are, and with what goes wrong.
    """

    def __init__(self, run: LoggedRun, loggers: Sequence[Logger], notify: Callable[[str], None]) -> None:
        run = replace(run, earlier=run.folder.logs())
        self._lines = [_Line(run, logger, notify) for logger in loggers]
        self._history: Sequence[Epoch] = ()

    @contextmanager
    def of(self, history: Sequence[Epoch]) -> Iterator[None]:
        """Open the logs, and write the epochs of an earlier run that they lack; at the end, close them.

        Args:
            history: The epochs that are done; the caller adds to it.
        """
        self._history = history
        self.write()
        try:
            yield
        except Exception:
            self._end("FAILED")
            raise
        self._end("KILLED")  # unless it is finished

    def write(self) -> None:
        """Write the latest epoch, and earlier ones that a log lacks."""
        for line in self._lines:
            line.send(self._history)

    def finish(self, best: Checkpoint | None) -> None:
        """Close the logs of a run that is finished.

        Args:
            best: The checkpoint of its best epoch.
        """
        self._end("FINISHED", best)

    def _end(self, status: Status, best: Checkpoint | None = None) -> None:
        for line in self._lines:
            line.send(self._history, (status, best))
        self._lines = []


class _Line:
    """The log of a run at one logger."""

    def __init__(self, run: LoggedRun, logger: Logger, notify: Callable[[str], None]) -> None:
        self.run, self.logger, self.notify = run, logger, notify
        self.known = run.earlier.get(logger.key) if run.is_resumed else None
        self.logged: set[int] | None = None  # None as long as the log is not open
        self.failed_at_s: float | None = None
        self.is_described = False

    def send(self, history: Sequence[Epoch], ending: tuple[Status, Checkpoint | None] | None = None) -> None:
        """Write what is missing, and say so if it fails."""
        if self.failed_at_s is not None and ending is None and time.monotonic() - self.failed_at_s < RETRY_AFTER_S:
            return
        try:
            self._write(history)
            if ending is not None:
                status, best = ending
                self.logger.close(len(history), status, _outcome(self.run, best) if best is not None else {})
        except Exception as error:  # whatever a library raises
            self._fail(error, is_last=ending is not None)
        else:
            if self.failed_at_s is not None:
                self.notify(f"{self.logger.key} works again, and has all {len(history)} epochs")
            self.failed_at_s = None

    def _write(self, history: Sequence[Epoch]) -> None:
        if self.logged is None:
            self.known, found = self.logger.open(self.run, self.known)
            self.logged = set(found)
            self.run.folder.save_logs(self.run.folder.logs() | {self.logger.key: self.known})
            if not self.is_described:
                self.notify(f"{self.logger.key}: {self.logger.describe()}")
                self.is_described = True
        for count, epoch in enumerate(history, 1):
            if epoch.epoch not in self.logged:
                self.logger.log(epoch.epoch, _values(history[:count]))
                self.logged.add(epoch.epoch)

    def _fail(self, error: Exception, *, is_last: bool) -> None:
        is_first = self.failed_at_s is None
        self.logged, self.failed_at_s = None, time.monotonic()
        if is_last:
            self.notify(
                f"{self.logger.key} could not be written: {why(error)}. The run's own files are complete; the same "
                f"command with --resume writes what is missing there."
            )
        elif is_first:
            self.notify(
                f"{self.logger.key} cannot be written: {why(error)}. Training goes on, and the epochs that are "
                f"missing there are written when it works again."
            )


def _values(history: Sequence[Epoch]) -> dict[str, float]:
    """The numbers of the last of these epochs: those of the file of metrics, and which epoch is the best so far."""
    from onward_training.checkpoint import best_epoch

    values = asdict(history[-1])
    del values["epoch"]
    return values | {"best_epoch": best_epoch(history)}


def _outcome(run: LoggedRun, best: Checkpoint) -> dict[str, str]:
    return {
        "best_epoch": str(best.provenance["best_epoch"]),
        "checkpoint": str(run.folder.path),
        "weights_sha256": best.weights_digest(),
    }
