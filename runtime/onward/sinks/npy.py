"""One array of numbers, .npy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from onward.sinks.sink import Columns, Rows

__all__ = ["NpySink"]


class NpySink:
    """float32 `(inputs, classes)`: probabilities, or logits where they are asked for.

    Row i is input i; of an input that could not be read it is NaN.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def begin(self) -> bytes:
        """The header of an array without rows; with rows it is as long."""
        return self._header(0)

    def encode(self, rows: Rows) -> bytes:
        """The numbers, row by row."""
        values = rows.logits if self.columns.logits else rows.probabilities
        if rows.places is not None and rows.num_inputs is not None:
            whole = np.full((rows.num_inputs, len(self.columns.labels)), np.nan, np.float32)
            whole[rows.places] = values
            values = whole
        return np.ascontiguousarray(values, np.float32).tobytes()

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Put the number of rows into the header."""
        with staged.open("r+b") as stream:
            stream.write(self._header(num_inputs))
        return staged

    def _header(self, num_rows: int) -> bytes:
        header = io.BytesIO()
        shape = (num_rows, len(self.columns.labels))
        # numpy leaves room for the first axis to grow
        np.lib.format.write_array_header_1_0(
            header, {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": shape}
        )
        return header.getvalue()
