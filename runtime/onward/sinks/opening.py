"""Opening: the sink for the name of a file."""

from __future__ import annotations

from pathlib import Path

from onward.errors import UsageError
from onward.sinks.sink import Columns, Sink

__all__ = ["STDOUT", "open_sink"]

STDOUT = Path("-")


def open_sink(out: Path, columns: Columns) -> Sink:
    """The sink for .csv, .jsonl, .parquet or .npy; for `-` JSON Lines.

    Raises:
        UsageError: The ending is none of these, or it is .parquet and pyarrow is not installed.
    """
    match ".jsonl" if out == STDOUT else out.suffix.lower():
        case ".csv":
            from onward.sinks.text import CsvSink

            return CsvSink(columns)
        case ".jsonl":
            from onward.sinks.text import JsonLinesSink

            return JsonLinesSink(columns)
        case ".parquet":
            from onward.sinks.parquet import ParquetSink

            return ParquetSink(columns)
        case ".npy":
            from onward.sinks.npy import NpySink

            return NpySink(columns)
        case other:
            raise UsageError(f"--out ends in {other or 'nothing'!r}, expected .csv, .jsonl, .parquet or .npy, or `-`.")
