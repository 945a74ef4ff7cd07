"""Names of loggers: the values of `--logger`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onward.errors import UsageError, did_you_mean
from onward_training.loggers.logger import Logger
from onward_training.loggers.mlflow_logger import MLflowLogger
from onward_training.loggers.tensorboard_logger import TensorBoardLogger

__all__ = ["open_loggers"]

NAMES = ("tensorboard", "tensorboard:FOLDER", "mlflow", "mlflow:URI")


def open_loggers(names: Sequence[str]) -> list[Logger]:
    """The loggers of these names, each of which can be written to; nothing is written yet.

    Args:
        names: `tensorboard`, `tensorboard:FOLDER`, `mlflow` or `mlflow:URI`.

    Raises:
        OutputError: One cannot be written to, or does not answer.
        UsageError: A name is unknown, or its package is not installed.
    """
    loggers = [_logger(name) for name in dict.fromkeys(names)]
    for logger in loggers:
        logger.check()
    return loggers


def _logger(name: str) -> Logger:
    kind, colon, place = name.partition(":")
    if kind not in NAMES or (colon and not place):
        raise UsageError(
            f"logger {name!r} is unknown, expected one of {', '.join(NAMES)}.{did_you_mean(kind, NAMES[::2])}"
        )
    if kind == "mlflow":
        return MLflowLogger(place or None)
    return TensorBoardLogger(Path(place) if place else None)
