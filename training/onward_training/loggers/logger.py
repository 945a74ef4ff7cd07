"""Logger: what a run asks of a program that shows it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from onward.errors import reason_of

if TYPE_CHECKING:
    from onward_training.run_folder import RunFolder

__all__ = ["LOSS", "LoggedRun", "Logger", "Status", "why"]

#: The number by which a logger knows which epochs it has.
LOSS = "validation_loss"
#: How a run ended. Source: MLflow, `RunStatus`.
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class LoggedRun:
    """A run as loggers see it.

    Args:
        folder: Its files.
        stated: Its options, by their names in `--config`; None where one has no value.
        is_resumed: Whether it goes on with an earlier one, and with its logs.
        overwrites: Whether it replaces an earlier one, and its logs that are files.
        earlier: The logs of the run that it goes on with or replaces, as `RunFolder.logs` has them.
    """

    folder: RunFolder
    stated: Mapping[str, Any] = field(default_factory=dict)
    is_resumed: bool = False
    overwrites: bool = False
    earlier: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, str | float | bool]:
        """What is logged of its options: `learning_rate` and the others that have a value."""
        chosen = {name.replace("-", "_"): value for name, value in self.stated.items() if value is not None}
        return {name: _plain(value) for name, value in chosen.items() if name != "logger"}

    @property
    def name(self) -> str:
        """That of the checkpoint, without its suffix."""
        return self.folder.path.stem


def why(error: BaseException) -> str:
    """Why a logger failed: what the system said, such as `Connection refused`, or else what the library did."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return "it does not answer in time"
        if isinstance(cause, OSError) and cause.strerror:
            return str(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return reason_of(error).rstrip(".")


def _plain(value: Any) -> str | float | bool:
    if isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value) if isinstance(value, (dict, list, tuple)) else str(value)


class Logger(Protocol):
    """One place that runs are logged to."""

    @property
    def key(self) -> str:
        """Its name in messages, and in the file beside the checkpoint: `tensorboard:runs`."""

    def check(self) -> None:
        """Check that it can be written to, before anything else is done.

        Raises:
            OutputError: It cannot, or it does not answer.
            UsageError: Its package is not installed.
        """

    def open(self, run: LoggedRun, known: str | None) -> tuple[str, Collection[int]]:
        """Open the log of a run.

        Args:
            run: The run.
            known: Which log it has here, as this method returned it earlier; None for a new one.

        Returns:
            Which log it is, and the numbers of the epochs in it.
        """

    def describe(self) -> str:
        """Where people find the log that is open."""

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the numbers of one epoch, all or nothing."""

    def close(self, num_epochs: int, status: Status, outcome: Mapping[str, str]) -> None:
        """End the log.

        Args:
            num_epochs: That are in it.
            status: How the run ended.
            outcome: What became of it; empty unless it is finished.
        """
