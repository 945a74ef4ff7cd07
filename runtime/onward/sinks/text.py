"""Text: comma-separated values with one line a row behind a header, and JSON Lines with one object a row."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.printable import escape_json
from onward.sinks.sink import Column, Columns, Rows

__all__ = ["CsvSink", "JsonLinesSink", "json_line"]

#: What spreadsheets take for the beginning of a formula. Source: OWASP, CSV Injection.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


class CsvSink:
    """One line a row: `input`, then every column. A column of several numbers has a field for each, `logit_0` …

    UTF-8. A file name that is not UTF-8 keeps its bytes.

    Args:
        columns: What is written of a row.
        is_safe: Whether names and labels that a spreadsheet would take for a formula get an apostrophe in front.
    """

    def __init__(self, columns: Columns, *, is_safe: bool = False) -> None:
        self.is_safe = is_safe
        self.columns = tuple(_without_formulas(column) for column in columns.columns) if is_safe else columns.columns
        self.categories = {column.name: _objects(column) for column in self.columns if column.categories is not None}
        self.has_odd_category = any(_is_odd(text) for column in self.columns for text in column.categories or ())

    def begin(self) -> bytes:
        """The header."""
        return _encode([["input", *(name for column in self.columns for name in _fields(column))]])

    def encode(self, rows: Rows) -> bytes:
        """One line a row."""
        fields: list[Sequence[object]] = [[*map(_text_cell, rows.names)] if self.is_safe else rows.names]
        for column in self.columns:
            fields += self._texts(column, rows.values[column.name])
        lines = zip(*fields, strict=True)
        return _encode(lines) if not self._has_odd_text(rows) else b"".join(map(_encode_carefully, lines))

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Nothing is missing."""
        return staged

    def _texts(self, column: Column, values: NDArray[Any]) -> list[Sequence[object]]:
        """What is written of a column, a sequence for each of its fields."""
        if column.categories is not None:
            values = self.categories[column.name][values]
        flat = values.reshape(len(values), math.prod(column.dims)).T.tolist() if column.dims else [values.tolist()]
        if np.dtype(column.dtype).kind != "f":
            return list(flat)
        return [[format(value, column.format) for value in field] for field in flat]

    def _has_odd_text(self, rows: Rows) -> bool:
        return self.has_odd_category or _is_odd("".join(rows.names))


def _without_formulas(column: Column) -> Column:
    if column.categories is None:
        return column
    return replace(column, categories=tuple(map(_text_cell, column.categories)))


def _text_cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _objects(column: Column) -> NDArray[Any]:
    return np.array(column.categories, object)


def _fields(column: Column) -> list[str]:
    if not column.dims:
        return [column.name]
    return [f"{column.cell or column.name}_{index}" for index in range(math.prod(column.dims))]


def _encode(lines: object) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(lines)  # type: ignore[arg-type]
    return text.getvalue().encode("utf-8", "surrogateescape")


def _encode_carefully(line: tuple[object, ...]) -> bytes:
    if not any(_is_odd(field) for field in line if isinstance(field, str)):
        return _encode([line])
    quoted = ('"' + str("" if field is None else field).replace('"', '""') + '"' for field in line)
    return (",".join(quoted) + "\n").encode("utf-8", "surrogateescape")


def _is_odd(text: str) -> bool:
    """Whether the csv module quotes the text wrongly: it leaves a lone carriage return, and Python 3.10 refuses NUL."""
    return "\r" in text or "\0" in text


class JsonLinesSink:
    """One object a row: `input`, then every column; a ranking is a list of objects, `ListEntry` says how."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns.columns

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, rows: Rows) -> bytes:
        """One line a row."""
        values = [_plain(column, rows.values[column.name]) for column in self.columns]
        return b"".join(json_line(self._row(*row)) for row in zip(rows.names, *values, strict=True))

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Nothing is missing."""
        return staged

    def _row(self, name: str, *values: object) -> dict[str, Any]:
        row: dict[str, Any] = {"input": name}
        best: dict[str, dict[str, object]] = {}
        for column, value in zip(self.columns, values, strict=True):
            item = column.item
            if item is None:
                row[column.name] = value
            elif item.index == 0:
                row[item.key] = best.setdefault(item.within, {})[item.key] = value
            else:
                objects = row.setdefault(item.within, [best[item.within]])
                if len(objects) == item.index:
                    objects.append({})
                objects[item.index][item.key] = value
        return row


def _plain(column: Column, values: NDArray[Any]) -> list[Any]:
    """A column's values as Python has them, one a row."""
    if column.categories is not None:
        return [column.categories[index] for index in values.tolist()]
    found: list[Any] = values.tolist()
    if np.dtype(column.dtype).kind != "f":
        return found
    return _rounded(found, column.decimals)


def _rounded(values: list[Any], decimals: int | None) -> list[Any]:
    if values and isinstance(values[0], list):
        return [_rounded(value, decimals) for value in values]
    # the shortest text that a float32 reads back from is less than half as long as that of the float64 it becomes
    return [float(f"{value:.9g}") if decimals is None else round(value, decimals) for value in values]


def json_line(document: dict[str, Any]) -> bytes:
    """One line of UTF-8; the bytes of a file name that is none are `\\udc80` to `\\udcff`, as Python reads them."""
    return (escape_json(json.dumps(document, ensure_ascii=False)) + "\n").encode()
