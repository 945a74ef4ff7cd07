"""Parquet, with typed columns.

A Parquet file has its table of contents at the end: a file that a crash has cut short cannot be read. So the rows are
staged as messages of Arrow's stream format, which can be cut between any two, and become Parquet at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import UsageError
from onward.sinks.sink import Column, Columns, Rows

try:
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet
except ImportError as error:
    raise UsageError("a .parquet file needs pyarrow: pip install 'onward[parquet]'") from error

__all__ = ["ParquetSink"]

ROWS_A_GROUP = 1 << 17


class ParquetSink:
    """Columns `input` (string), then every column with its own type: texts as a dictionary of strings, several numbers
    as a list of fixed length.

    Strings are UTF-8. Bytes of a file name that are not become `\\x80` to `\\xff`.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns.columns
        self.staged = pa.schema([("input", pa.string()), *((column.name, _type(column)) for column in self.columns)])

    def begin(self) -> bytes:
        """The message of the schema."""
        return bytes(self.staged.serialize())

    def encode(self, rows: Rows) -> bytes:
        """The message of one record batch."""
        if not len(rows.names):
            return b""
        names = [_text(name) for name in rows.names]
        arrays = [pa.array(names, pa.string())]
        arrays += [_array(column, rows.values[column.name]) for column in self.columns]
        return bytes(pa.record_batch(arrays, schema=self.staged).serialize())

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Write the Parquet file beside what was staged."""
        whole = staged.with_name(f"{staged.name}.whole")
        # not mapped: a map's pages count as memory that is taken
        with pa.OSFile(str(staged)) as source, pa.OSFile(str(whole), "wb") as target:
            reader = pa.ipc.open_stream(source)
            first = self._typed(pa.Table.from_batches([], self.staged))
            with pa.parquet.ParquetWriter(target, first.schema) as writer:
                for table in _regrouped(reader):
                    writer.write_table(self._typed(table), row_group_size=ROWS_A_GROUP)
        return whole

    def _typed(self, table: pa.Table) -> pa.Table:
        """With texts in place of their indices."""
        for at, column in enumerate(self.columns, 1):
            if column.categories is None:
                continue
            texts = pa.array(column.categories, pa.string())
            chunks = [pa.DictionaryArray.from_arrays(chunk, texts) for chunk in table.column(at).chunks]
            kind = pa.dictionary(pa.int32(), pa.string())
            table = table.set_column(at, column.name, pa.chunked_array(chunks, kind))
        return table


def _type(column: Column) -> pa.DataType:
    kind = pa.from_numpy_dtype(np.dtype(column.dtype))
    for size in reversed(column.dims):
        kind = pa.list_(kind, size)
    return kind


def _array(column: Column, values: NDArray[Any]) -> pa.Array:
    array = pa.array(np.ascontiguousarray(values, column.dtype).reshape(-1))
    for size in reversed(column.dims):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _regrouped(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Tables of the length of a row group, but for the last."""
    gathered: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        gathered.append(batch)
        num_rows += batch.num_rows
        while num_rows >= ROWS_A_GROUP:
            table = pa.Table.from_batches(gathered)
            yield table.slice(0, ROWS_A_GROUP)
            gathered = table.slice(ROWS_A_GROUP).to_batches()
            num_rows -= ROWS_A_GROUP
    if num_rows:
        yield pa.Table.from_batches(gathered)


def _text(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return name
