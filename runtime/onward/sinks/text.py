"""Comma-separated values, one line a row behind a header.

JSON Lines, one object a row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onward.sinks.sink import Columns, Rows, rank

__all__ = ["CsvSink", "JsonLinesSink", "json_line"]


class CsvSink:
    """Rows of `input,label,index,probability`, then `label_2,index_2,probability_2` and so on, then `logit_0` …

    UTF-8; a file name that is none keeps its bytes.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        self.labels = np.array(columns.labels, object)
        self.has_odd_label = any("\r" in label for label in columns.labels)

    def begin(self) -> bytes:
        """The header."""
        header = ["input", *(name for group in self.columns.places for name in group)]
        if self.columns.logits:
            header += [f"logit_{index}" for index in range(len(self.columns.labels))]
        return _encode([header])

    def encode(self, rows: Rows) -> bytes:
        """One line a row."""
        ranked = rank(rows.probabilities, self.columns.top_k)
        chosen = np.take_along_axis(rows.probabilities, ranked, 1)
        fields: list[Sequence[object]] = [rows.names]
        for place in range(self.columns.top_k):
            indices = ranked[:, place]
            decimals = [f"{value:.6f}" for value in chosen[:, place].tolist()]
            fields += [self.labels[indices].tolist(), indices.tolist(), decimals]
        if self.columns.logits:
            fields += [[f"{value:.6g}" for value in column] for column in rows.logits.T.tolist()]
        lines = zip(*fields, strict=True)
        return _encode(lines) if not self._has_odd_text(rows) else b"".join(map(_encode_carefully, lines))

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Nothing is missing."""
        return staged

    def _has_odd_text(self, rows: Rows) -> bool:
        # the csv module quotes a lone carriage return only where everything is quoted
        return self.has_odd_label or "\r" in "".join(rows.names)


def _encode(lines: object, quoting: int = csv.QUOTE_MINIMAL) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(lines)  # type: ignore[arg-type]
    return text.getvalue().encode("utf-8", "surrogateescape")


def _encode_carefully(line: tuple[object, ...]) -> bytes:
    is_odd = any("\r" in field for field in line if isinstance(field, str))
    return _encode([line], csv.QUOTE_ALL if is_odd else csv.QUOTE_MINIMAL)


class JsonLinesSink:
    """Rows of `{"input", "label", "index", "probability", "top": [{"label", "index", "probability"}], "logits"}`."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def encode(self, rows: Rows) -> bytes:
        """One line a row."""
        ranked = rank(rows.probabilities, self.columns.top_k)
        chosen = np.take_along_axis(rows.probabilities, ranked, 1)
        lines = [self._row(*row) for row in zip(rows.names, ranked.tolist(), chosen.tolist(), rows.logits, strict=True)]
        return b"".join(map(json_line, lines))

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Nothing is missing."""
        return staged

    def _row(self, name: str, indices: list[int], values: list[float], logits: Any) -> dict[str, Any]:
        labels = self.columns.labels
        top = [
            {"label": labels[index], "index": index, "probability": round(value, 6)}
            for index, value in zip(indices, values, strict=True)
        ]
        row = {"input": name} | top[0] | ({"top": top} if self.columns.top_k > 1 else {})
        return row | {"logits": [round(value, 6) for value in logits.tolist()]} if self.columns.logits else row


def json_line(document: dict[str, Any]) -> bytes:
    """One line of UTF-8; the bytes of a file name that is none are `\\udc80` to `\\udcff`, as Python reads them."""
    try:
        return (json.dumps(document, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(document) + "\n").encode()
