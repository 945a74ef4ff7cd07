"""JSON Lines, one object a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from onward.sinks.rows import Columns, Rows, rank

__all__ = ["JsonLinesSink", "json_line"]


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
