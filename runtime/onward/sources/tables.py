"""Table: what Parquet files and lists in CSV have in common: columns that are found by their names, and rows.

Listing: a CSV or TSV table whose rows name images by their paths.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from onward.errors import DataError
from onward.sources.files import file_input, has_image_suffix, inputs_within
from onward.sources.source import Item, Source, Unreadable, blocks_of

__all__ = ["choose_column", "choose_labels", "file_of_row", "label_of", "listing", "name_of_row"]


#: The first that a table has, however it is capitalised, holds the images or their paths.
COLUMN_NAMES = (
    "image",
    "img",
    "bytes",
    "jpg",
    "jpeg",
    "png",
    "path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "image_path",
    "input",
)
LABEL_NAMES = ("label", "labels", "class", "cls", "target", "category", "y")
#: Of a table with more, so many are named in an error.
NAMED_COLUMNS = 20


def choose_column(
    table: str, columns: Sequence[str], column: str | None, *, fitting: Sequence[str], likely: Sequence[str]
) -> str:
    """The column that holds the images or their paths.

    Args:
        table: Its path, for errors.
        columns: All of them.
        column: The one that was asked for, or None.
        fitting: Those that can be it, by their type.
        likely: Those of which, where no name is a usual one, the only one is taken.

    Raises:
        DataError: It is not there, or cannot be told.
    """
    if column in columns:
        return str(column)
    named = ", ".join(columns[:NAMED_COLUMNS]) + (", …" if len(columns) > NAMED_COLUMNS else "")
    if column is not None:
        raise DataError(f"{table} has no column {column!r}; its columns are: {named}.")
    found = _first(COLUMN_NAMES, fitting) or (likely[0] if len(likely) == 1 else None)
    if found is None:
        raise DataError(
            f"{table} has no column with a usual name that can hold images ({', '.join(COLUMN_NAMES[:3])}, path, file "
            f"…); its columns are: {named}. Say which one with --column."
        )
    return found


def choose_labels(columns: Sequence[str]) -> str | None:
    """The column that holds the classes, where one has a usual name."""
    return _first(LABEL_NAMES, columns)


def label_of(value: object) -> str | None:
    """A cell as a label; a whole number that a hole in its column has made a float is a whole number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    text = "" if value is None or value != value else str(value).strip()
    return text or None


def name_of_row(table: str, row: int) -> str:
    """What a row is called that holds no path."""
    return f"{table}[{row}]"


def file_of_row(table: str, row: int, path: str, label: str | None) -> Item:
    """The image that a row names by its path, relative to the folder of the table."""
    if not path:
        return Unreadable(name_of_row(table, row), "the row's path is empty", label=label)
    return file_input(os.path.join(os.path.dirname(table), path), name=path, label=label)


def _first(usual: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), None)


#: A longer line is read in pieces, which are rows of their own, and bad ones: no file fills the memory.
MAX_LINE_CHARACTERS = 1 << 20

#: The number of the line that a row ends in, and its fields, or why they cannot be told.
Row = tuple[int, list[str] | str]


def listing(path: str, column: str | None = None) -> Source:
    """The images that a table names, by paths relative to its folder. Its first line names the columns.

    Raises:
        DataError: It is empty, or which column holds the paths cannot be told.
    """
    with _rows(path) as rows:
        _, header = next(rows, (0, "it is empty"))
        is_empty = next(rows, None) is None
    if isinstance(header, str):
        raise DataError(f"{path} has no header: {header}. Its first line has to name the columns.")
    _check_header(path, header)
    column = choose_column(path, header, column, fitting=header, likely=header)
    label = choose_labels([name for name in header if name != column])
    if is_empty:
        raise DataError(f"{path} holds no image: it has no row below its header.")
    where = header.index(column), None if label is None else header.index(label)
    return Source(
        lambda: blocks_of(inputs_within(path, _listed_inputs(path, len(header), *where))), lambda: _count(path)
    )


@contextmanager
def _rows(path: str) -> Iterator[Iterator[Row]]:
    """All rows, the header too; empty lines are none."""
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
            lines = iter(partial(stream.readline, MAX_LINE_CHARACTERS), "")
            yield _parse(lines, "\t" if path.lower().endswith(".tsv") else ",")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _parse(lines: Iterator[str], delimiter: str) -> Iterator[Row]:
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            for fields in reader:
                if fields:
                    yield reader.line_num, fields
            return
        except csv.Error as error:  # the reader goes on behind it
            yield reader.line_num, str(error)


def _check_header(path: str, header: list[str]) -> None:
    first = next(filter(has_image_suffix, header), None)
    if first is not None:
        raise DataError(f"{path} has no header: its first line holds {first!r}, and has to name the columns.")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise DataError(f"{path} has the one column {header[0]!r}; expected commas, or tabs and the suffix .tsv.")


def _listed_inputs(path: str, num_fields: int, image: int, label: int | None) -> Iterator[Item]:
    with _rows(path) as rows:
        next(rows, None)
        for row, (line, fields) in enumerate(rows):
            if isinstance(fields, str):
                yield Unreadable(name_of_row(path, row), f"line {line}: {fields}")
            elif len(fields) != num_fields:
                reason = f"line {line} has {len(fields)} fields, its header {num_fields}"
                yield Unreadable(name_of_row(path, row), reason)
            elif "\0" in fields[image]:
                yield Unreadable(name_of_row(path, row), f"line {line}: a null character in a path")
            else:
                yield file_of_row(path, row, fields[image], None if label is None else label_of(fields[label]))


def _count(path: str) -> int:
    with _rows(path) as rows:
        return sum(1 for _ in rows) - 1
