"""Tables: images in rows, found by the names of columns; and CSV and TSV tables, whose rows hold paths of images."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from onward.errors import DataError, some_of
from onward.limits import MAX_LABEL_CHARACTERS
from onward.sources.files import has_image_suffix, image_file, items_within
from onward.sources.source import Item, Source, in_blocks, unreadable

__all__ = ["choose_image_column", "choose_label_column", "csv_table", "item_of_path", "label_of", "row_name"]

#: The first of these that a table has, in any capitalisation, holds the images or their paths.
IMAGE_COLUMNS = (
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
LABEL_COLUMNS = ("label", "labels", "class", "cls", "target", "category", "y")
#: An error names at most this many columns of a table.
MAX_COLUMNS_NAMED = 20
#: A longer line is read in pieces, each a bad row of its own, so that no file fills the memory.
MAX_LINE_CHARACTERS = 1 << 20

#: The number of the line that a row ends in, and its fields, or the reason why it cannot be parsed.
Row = tuple[int, list[str] | str]


def choose_image_column(
    table: str, columns: Sequence[str], column: str | None, *, suitable: Sequence[str], likely: Sequence[str]
) -> str:
    """The column that holds the images or their paths.

    Args:
        table: Its path, for errors.
        columns: All columns.
        column: The one that was asked for, or None.
        suitable: Columns whose type can hold images or paths.
        likely: Columns of which the only one is taken if none has a usual name.

    Raises:
        DataError: The column is missing, or the choice is ambiguous.
    """
    if column in columns:
        return str(column)
    named = some_of(columns, MAX_COLUMNS_NAMED)
    if column is not None:
        raise DataError(f"{table} has no column {column!r}; its columns are: {named}.")
    found = _first(IMAGE_COLUMNS, suitable) or (likely[0] if len(likely) == 1 else None)
    if found is None:
        raise DataError(
            f"{table} has no column for images with a usual name ({', '.join(IMAGE_COLUMNS[:3])}, path, file …); its "
            f"columns are: {named}. Choose one with --column."
        )
    return found


def choose_label_column(columns: Sequence[str]) -> str | None:
    """The column that holds the labels, if one has a usual name."""
    return _first(LABEL_COLUMNS, columns)


def label_of(value: object) -> str | None:
    """A cell as a label. A missing value makes a column of integers one of floats: `3.0` becomes `3`.

    A longer text than any label is none.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bytes):
        value = os.fsdecode(value)
    text = "" if value is None or value != value else str(value).strip()
    return text if 0 < len(text) <= MAX_LABEL_CHARACTERS else None


def row_name(table: str, row: int) -> str:
    """The name of a row that holds no path."""
    return f"{table}[{row}]"


def item_of_path(table: str, row: int, path: str, label: str | None) -> Item:
    """The image at the path in a row, relative to the folder of the table."""
    if not path:
        return unreadable(row_name(table, row), "the row's path is empty", label=label)
    return image_file(os.path.join(os.path.dirname(table), path), name=path, label=label)


def csv_table(path: str, column: str | None = None) -> Source:
    """The images whose paths a CSV or TSV table holds, relative to its folder. The first line names the columns.

    Raises:
        DataError: The table is empty, or the column of the paths is ambiguous.
    """
    with _rows(path) as rows:
        _, header = next(rows, (0, "it is empty"))
        is_empty = next(rows, None) is None
    if isinstance(header, str):
        raise DataError(f"{path} has no header: {header}. The first line must name the columns.")
    _check_header(path, header)
    column = choose_image_column(path, header, column, suitable=header, likely=header)
    label = choose_label_column([name for name in header if name != column])
    if is_empty:
        raise DataError(f"{path} contains no image: it has no row below its header.")
    where = header.index(column), None if label is None else header.index(label)
    return Source(lambda: in_blocks(items_within(path, _items(path, len(header), *where))), lambda: _count(path))


@contextmanager
def _rows(path: str) -> Iterator[Iterator[Row]]:
    """All rows, the header too; empty lines are skipped."""
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
        except csv.Error as error:  # the reader can go on after it
            yield reader.line_num, str(error)


def _check_header(path: str, header: list[str]) -> None:
    first = next(filter(has_image_suffix, header), None)
    if first is not None:
        raise DataError(f"{path} has no header: its first line holds {first!r}, but must name the columns.")
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise DataError(f"{path} has one column {header[0]!r}; expected commas, or tabs and the suffix .tsv.")


def _items(path: str, num_fields: int, image: int, label: int | None) -> Iterator[Item]:
    with _rows(path) as rows:
        next(rows, None)
        for row, (line, fields) in enumerate(rows):
            if isinstance(fields, str):
                yield unreadable(row_name(path, row), f"line {line}: {fields}")
            elif len(fields) != num_fields:
                reason = f"line {line} has {len(fields)} fields, its header {num_fields}"
                yield unreadable(row_name(path, row), reason)
            elif "\0" in fields[image]:
                yield unreadable(row_name(path, row), f"line {line}: a null character in a path")
            else:
                yield item_of_path(path, row, fields[image], None if label is None else label_of(fields[label]))


def _count(path: str) -> int:
    with _rows(path) as rows:
        return sum(1 for _ in rows) - 1


def _first(usual: Sequence[str], columns: Sequence[str]) -> str | None:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    return next((by_name[name] for name in usual if name in by_name), None)
