"""Sinks: rows become the bytes of a file. They know no model, no source, and not what a column means."""

from onward.sinks.sink import STDOUT, Column, Columns, ListEntry, Rows, Sink, open_sink

__all__ = ["STDOUT", "Column", "Columns", "ListEntry", "Rows", "Sink", "open_sink"]
