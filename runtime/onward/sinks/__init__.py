"""Sinks: rows become the bytes of a file. They know no model, no source, and not what a column means."""

from onward.sinks.opening import STDOUT, open_sink
from onward.sinks.sink import Column, Columns, ListEntry, Rows, Sink

__all__ = ["STDOUT", "Column", "Columns", "ListEntry", "Rows", "Sink", "open_sink"]
