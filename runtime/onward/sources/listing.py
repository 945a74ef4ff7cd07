"""Listing: a CSV or TSV table whose rows name images by their paths."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from onward.errors import DataError
from onward.sources.block import Input, Unreadable, blocks_of
from onward.sources.files import has_image_suffix, inputs_within
from onward.sources.source import Source
from onward.sources.table import choose_column, choose_labels, file_of_row, label_of, name_of_row

__all__ = ["listing"]

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
    return Source(lambda: blocks_of(inputs_within(path, _inputs(path, len(header), *where))), lambda: _count(path))


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


def _inputs(path: str, num_fields: int, image: int, label: int | None) -> Iterator[Input]:
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
