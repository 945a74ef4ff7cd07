"""Sink: turns rows into bytes that are appended to a file. The file is made whole at the end.

A file that is only ever appended to can be cut back to any point at which all of it was on the disk. That lets a run go
on after a crash, whatever the format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from onward.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["STDOUT", "Column", "Columns", "ListEntry", "Rows", "Sink", "open_sink"]


@dataclass(frozen=True)
class ListEntry:
    """Where JSON Lines put a value of a ranking: in a list of objects, the best first.

    The values of the first object are also in the row itself. A list of one object is left out.

    Args:
        within: The list's name.
        index: Which of its objects, from 0.
        key: The value's name in the object.
    """

    within: str
    index: int
    key: str


@dataclass(frozen=True)
class Column:
    """A value that each row has.

    Args:
        name: Of the column.
        dtype: Of its numbers, as numpy has it.
        dims: The sizes of one value; none of a single number.
        categories: Texts of which the numbers are the indices; the texts are written.
        cell: The name of one number of several in CSV, before its index: `logit` for `logit_0`. By default the
            column's.
        format: How CSV writes a float. The default gives back the float32.
        decimals: To how many JSON Lines round a float; None keeps all.
        item: Where JSON Lines put the value; by default into the row, under the column's name.
    """

    name: str
    dtype: str
    dims: tuple[int, ...] = ()
    categories: tuple[str, ...] | None = None
    cell: str = ""
    format: str = ".9g"
    decimals: int | None = None
    item: ListEntry | None = None


@dataclass(frozen=True)
class Columns:
    """What is written of each row, behind the name of its input.

    Args:
        columns: In their order.
        array: What a file has that holds one array.
    """

    columns: tuple[Column, ...]
    array: Column


@dataclass(frozen=True)
class Rows:
    """What a model says of some consecutive inputs.

    Args:
        names: Of those that have an answer.
        values: Column name -> `(names, *dims)`.
        places: Where each of them stands among the inputs, int `(names,)`; None where all have one.
        num_inputs: How many inputs there were; by default as many as names.
    """

    names: Sequence[str]
    values: Mapping[str, NDArray[Any]]
    places: NDArray[Any] | None = None
    num_inputs: int | None = None


class Sink(Protocol):
    """One format of output."""

    def begin(self) -> bytes:
        """The bytes before the first row."""

    def encode(self, rows: Rows) -> bytes:
        """The bytes of some rows. Two parts one after the other give the bytes of the whole."""

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Make a file whole to which everything was appended.

        It may be called again after a crash, on a file that it was called on before.

        Args:
            staged: The file.
            num_inputs: How many inputs there were.

        Returns:
            The whole file: this one, or another one beside it.
        """


STDOUT = Path("-")


def open_sink(out: Path, columns: Columns, *, csv_safe: bool = False) -> Sink:
    """The sink for .csv, .jsonl, .parquet or .npy; for `-` JSON Lines.

    Args:
        out: The file; its ending decides.
        columns: What is written of a row.
        csv_safe: Whether names and labels in a .csv that a spreadsheet would take for a formula get an apostrophe.

    Raises:
        UsageError: The ending is none of these, or it is .parquet and pyarrow is not installed; or `csv_safe` is given
            for another format than .csv.
    """
    suffix = ".jsonl" if out == STDOUT else out.suffix.lower()
    if csv_safe and suffix != ".csv":
        raise UsageError(f"--csv-safe is for .csv, but --out is {str(out)!r}: leave it out.")
    match suffix:
        case ".csv":
            from onward.sinks.text import CsvSink

            return CsvSink(columns, is_safe=csv_safe)
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
