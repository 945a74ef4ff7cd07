"""Parquet: tables whose rows hold images, or their paths. Needs pyarrow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from onward.errors import DataError
from onward.sources.files import items_within
from onward.sources.source import Item, Source, in_blocks, unreadable
from onward.sources.tables import choose_image_column, choose_label_column, item_of_path, label_of, row_name

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["parquet"]

#: Bytes of a column that are read at a time. The default is a whole row group, however large its images are. A page is
#: decompressed as a whole all the same.
READ_BYTES = 1 << 20
#: Limits of the rows that are held at a time.
BATCH_BYTES = 4 << 20
MAX_BATCH_ROWS = 1024


def parquet(path: str, column: str | None = None) -> Source:
    """The images of a table: bytes, Hugging Face's `{bytes, path}`, or paths relative to the folder of the table.

    Raises:
        DataError: The table is damaged or empty, pyarrow is missing, or the column of the images is ambiguous.
    """
    with _open(path) as table:
        schema, num_rows = table.schema_arrow, table.metadata.num_rows
    kinds = {field.name: _kind(field.type) for field in schema if schema.get_field_index(field.name) >= 0}
    suitable = [name for name, kind in kinds.items() if kind in ("bytes", "struct", "text")]
    likely = [name for name in suitable if kinds[name] != "text"]
    column = choose_image_column(path, list(kinds), column, suitable=suitable, likely=likely)
    if column not in suitable:
        kind = schema.field(column).type
        raise DataError(f"column {column!r} of {path} is {kind}; expected bytes, text, or a struct {{bytes, path}}.")
    if not num_rows:
        raise DataError(f"{path} contains no image: it has no row.")
    label = choose_label_column([name for name, kind in kinds.items() if kind in ("text", "number") and name != column])
    return Source(lambda: in_blocks(items_within(path, _items(path, column, label))), lambda: int(num_rows))


@contextmanager
def _open(path: str) -> Iterator[Any]:
    """A table; pyarrow's errors on a damaged one, here and while it is read, become a DataError that names it."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'onward[parquet]'.") from error
    try:
        # a stream, because pyarrow refuses a path that is not UTF-8
        with (
            open(path, "rb") as stream,
            ParquetFile(stream, pre_buffer=False, buffer_size=READ_BYTES, page_checksum_verification=True) as table,
        ):
            yield table
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or cannot be read: {error}.") from error


def _kind(kind: pa.DataType) -> str:
    """What a column of this type can hold: `bytes`, `struct` with an image in it, `text`, `number`, or `nothing`."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return "struct" if index >= 0 and _kind(kind.field(index).type) == "bytes" else "nothing"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return "bytes"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    return "number" if types.is_integer(kind) or types.is_floating(kind) else "nothing"


def _items(path: str, column: str, label: str | None) -> Iterator[Item]:
    row = 0
    with _open(path) as table:
        for batch in _batches(table, [column, *filter(None, [label])]):
            images = _values(batch.column(column))
            labels = [None] * len(images) if label is None else _values(batch.column(label))
            for image, value in zip(images, labels, strict=True):
                yield _item(path, row, image, label_of(value))
                row += 1


def _batches(table: Any, columns: list[str]) -> Iterator[Any]:
    """Some rows at a time, all of one row group: if the next group is damaged, the rows before it are complete."""
    for index in range(table.num_row_groups):
        group = table.metadata.row_group(index)
        fitting = BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
        num_rows = max(1, min(MAX_BATCH_ROWS, fitting))
        yield from table.iter_batches(num_rows, row_groups=[index], columns=columns, use_threads=False)


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    if _kind(column.type) == "text":  # as bytes, or one name that is not UTF-8 would fail the whole batch
        names = column.cast(pa.large_binary()).to_pylist()
        return [None if name is None else os.fsdecode(name) for name in names]
    return list(column.to_pylist())


def _item(path: str, row: int, image: Any, label: str | None) -> Item:
    if isinstance(image, dict):
        image = image["bytes"] if image["bytes"] is not None else image.get("path")
    name = row_name(path, row)
    if image is None:
        return unreadable(name, "the row's image is null", label=label)
    if isinstance(image, str):
        return item_of_path(path, row, image, label)
    return Item.of_bytes(name, image, label=label)
