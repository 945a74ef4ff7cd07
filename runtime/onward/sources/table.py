"""Table: what Parquet files and lists in CSV have in common: columns that are found by their names, and rows."""

from __future__ import annotations

import os
from collections.abc import Sequence

from onward.errors import DataError
from onward.sources.block import Input, Unreadable
from onward.sources.files import file_input

__all__ = ["choose_column", "choose_labels", "file_of_row", "label_of", "name_of_row"]

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


def file_of_row(table: str, row: int, path: str, label: str | None) -> Input:
    """The image that a row names by its path, relative to the folder of the table."""
    if not path:
        return Unreadable(name_of_row(table, row), "the row's path is empty", label=label)
    return file_input(os.path.join(os.path.dirname(table), path), name=path, label=label)


def _first(usual: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), None)
