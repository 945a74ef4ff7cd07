"""One array of numbers, .npy."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from onward.sinks.sink import Columns, Rows

__all__ = ["NpySink"]


class NpySink:
    """The values of the one column that an array holds: `(inputs, *dims)`.

    Row i is input i. For an input without an answer it is NaN, and 0 in an array of integers: the file of errors
    says why.
    """

    def __init__(self, columns: Columns) -> None:
        self.column = columns.array
        self.dtype = np.dtype(columns.array.dtype)

    def begin(self) -> bytes:
        """The header of an array without rows. It has the length of one with rows."""
        return self._header(0)

    def encode(self, rows: Rows) -> bytes:
        """The numbers, row by row."""
        values = rows.values[self.column.name]
        if rows.places is not None and rows.num_inputs is not None:
            missing = np.nan if self.dtype.kind == "f" else 0
            whole = np.full((rows.num_inputs, *self.column.dims), missing, self.dtype)
            whole[rows.places] = values
            values = whole
        return np.ascontiguousarray(values, self.dtype).tobytes()

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Put the number of rows into the header."""
        with staged.open("r+b") as stream:
            stream.write(self._header(num_inputs))
        return staged

    def _header(self, num_rows: int) -> bytes:
        header = io.BytesIO()
        # numpy leaves room for the first axis to grow
        np.lib.format.write_array_header_1_0(
            header, {"descr": self.dtype.str, "fortran_order": False, "shape": (num_rows, *self.column.dims)}
        )
        return header.getvalue()
