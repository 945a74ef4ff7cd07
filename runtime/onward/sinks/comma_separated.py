"""Comma-separated values, one line a row behind a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onward.sinks.rows import Columns, Rows, rank

__all__ = ["CsvSink"]


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
