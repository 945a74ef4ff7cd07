"""Parquet, with typed columns.

A Parquet file has its table of contents at the end: one that a crash has cut short cannot be read. So the rows are
staged as messages of Arrow's stream format, which can be cut between any two, and become Parquet at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onward.errors import UsageError
from onward.sinks.sink import Columns, Rows, rank

try:
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet
except ImportError as error:
    raise UsageError("a .parquet file needs pyarrow: pip install 'onward[parquet]'") from error

__all__ = ["ParquetSink"]

ROWS_A_GROUP = 1 << 17


class ParquetSink:
    """Columns `input` (string), `label` (dictionary of strings), `index` (int32), `probability` (float32), then
    `label_2` and so on to the k-th, then `logits` (list of float32, as long as there are classes).

    Strings are UTF-8; bytes of a file name that are none become `\\x80` to `\\xff`.
    """

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        staged = [("input", pa.string())]
        for _, index, probability in columns.places:
            staged += [(index, pa.int32()), (probability, pa.float32())]
        if columns.logits:
            staged.append(("logits", pa.list_(pa.float32(), len(columns.labels))))
        self.staged = pa.schema(staged)

    def begin(self) -> bytes:
        """The message of the schema."""
        return bytes(self.staged.serialize())

    def encode(self, rows: Rows) -> bytes:
        """The message of one record batch."""
        if not len(rows.names):
            return b""
        ranked = rank(rows.probabilities, self.columns.top_k)
        chosen = np.take_along_axis(rows.probabilities, ranked, 1)
        names = [_text(name) for name in rows.names]
        arrays = [pa.array(names, pa.string())]
        for place in range(self.columns.top_k):
            arrays += [pa.array(ranked[:, place].astype(np.int32)), pa.array(chosen[:, place].astype(np.float32))]
        if self.columns.logits:
            flat = pa.array(np.ascontiguousarray(rows.logits).reshape(-1))
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, len(self.columns.labels)))
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
        """With labels beside their indices."""
        labels = pa.array(self.columns.labels, pa.string())
        for label, index, _ in self.columns.places:
            at = table.schema.get_field_index(index)
            chunks = [pa.DictionaryArray.from_arrays(chunk, labels) for chunk in table.column(index).chunks]
            kind = pa.dictionary(pa.int32(), pa.string())
            table = table.add_column(at, label, pa.chunked_array(chunks, kind))
        return table


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
