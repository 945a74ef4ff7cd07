"""Sinks: rows of predictions become the bytes of a file. They know no model and no source."""

from onward.sinks.opening import STDOUT, open_sink
from onward.sinks.sink import Columns, Rows, Sink, rank

__all__ = ["STDOUT", "Columns", "Rows", "Sink", "open_sink", "rank"]
