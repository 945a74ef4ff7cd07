"""Sinks: rows of predictions become the bytes of a file. They know no model and no source."""

from runtime.sinks.opening import STDOUT, open_sink
from runtime.sinks.rows import Columns, Rows, rank
from runtime.sinks.sink import Sink

__all__ = ["STDOUT", "Columns", "Rows", "Sink", "open_sink", "rank"]
