"""Loggers: programs outside Onward that show runs. They know no network: options, numbers of epochs, a path."""

from onward_training.loggers.logger import LoggedRun, Logger
from onward_training.loggers.names import open_loggers
from onward_training.loggers.run_log import RunLog

__all__ = ["LoggedRun", "Logger", "RunLog", "open_loggers"]
