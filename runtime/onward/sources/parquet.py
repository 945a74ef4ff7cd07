"""Parquet: tables whose rows hold images, or their paths. Needs pyarrow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from onward.errors import DataError
from onward.limits import MAX_MEMBER_BYTES, mebibytes
from onward.sources.files import items_within
from onward.sources.parquet_pages import check_pages, read_chunks
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
MAX_BATCH_ROWS = 512
#: Describes columns and row groups; it takes many times its size in memory.
MAX_FOOTER_BYTES = 16 << 20


def parquet(path: str, column: str | None = None) -> Source:
    """The images of a table: bytes, Hugging Face's `{bytes, path}`, or paths relative to the folder of the table.

    Raises:
        DataError: The table is damaged or empty, pyarrow is missing, or the column of the images is ambiguous.
    """
    with _open(path) as table:
        schema, num_rows = table.schema_arrow, table.metadata.num_rows
    with open(path, "rb") as stream:
        # pyarrow keeps no dictionary of values that may repeat the beginning of the one before
        delta = {chunk.path for group in read_chunks(stream, path) for chunk in group if chunk.has_delta}
    kinds = {field.name: _kind(field.type) for field in schema if schema.get_field_index(field.name) >= 0}
    suitable = [name for name, kind in kinds.items() if kind in ("bytes", "struct", "text")]
    likely = [name for name in suitable if kinds[name] != "text"]
    column = choose_image_column(path, list(kinds), column, suitable=suitable or list(kinds), likely=likely)
    if column not in suitable:
        kind = schema.field(column).type
        raise DataError(
            f"column {column!r} of {path} is {kind}; expected one image a row: bytes, text (a path), or a struct "
            f"{{bytes, path}}."
        )
    if not num_rows:
        raise DataError(f"{path} contains no image: it has no row.")
    label = choose_label_column([name for name, kind in kinds.items() if kind in ("text", "number") and name != column])
    columns = [*_leaves(schema, column), *filter(None, [label])]
    texts = [name for name in columns if kinds.get(name) != "number" and name not in delta]
    return Source(
        lambda: in_blocks(items_within(path, _items(path, column, label, columns, texts))), lambda: int(num_rows)
    )


@contextmanager
def _open(path: str, texts: Sequence[str] = ()) -> Iterator[Any]:
    """A table; pyarrow's errors on a damaged one, here and while it is read, become a DataError that names it.

    Args:
        path: Of the file.
        texts: Columns of bytes or text whose dictionaries are kept: a cell that is in every row is in memory once.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(f"{path}: reading Parquet needs pyarrow: pip install 'onward[parquet]'.") from error
    try:
        # a stream, because pyarrow refuses a path that is not UTF-8
        with open(path, "rb") as stream:
            _check_footer(path, stream)
            with ParquetFile(
                stream, pre_buffer=False, buffer_size=READ_BYTES, page_checksum_verification=True, read_dictionary=texts
            ) as table:
                yield table
    except (ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or cannot be read: {error}.") from error


def _check_footer(path: str, stream: BinaryIO) -> None:
    size_bytes = os.fstat(stream.fileno()).st_size
    stream.seek(max(0, size_bytes - 8))
    footer_bytes = int.from_bytes(stream.read(4), "little")
    if MAX_FOOTER_BYTES < footer_bytes < size_bytes:
        raise DataError(
            f"{path} has a footer of {mebibytes(footer_bytes)}, at most {mebibytes(MAX_FOOTER_BYTES)}: write fewer "
            f"columns, or larger row groups."
        )
    stream.seek(0)


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


def _items(path: str, column: str, label: str | None, columns: list[str], texts: Sequence[str]) -> Iterator[Item]:
    row = 0
    with _open(path, texts) as table:
        for batch in _batches(path, table, columns, texts):
            images = _values(batch.column(column))
            labels = [None] * len(images) if label is None else _values(batch.column(label))
            for image, value in zip(images, labels, strict=True):
                yield _item(path, row, image, label_of(value))
                row += 1


def _batches(path: str, table: Any, columns: list[str], texts: Sequence[str]) -> Iterator[Any]:
    """Some rows at a time, all of one row group: if the next group is damaged, the rows before it are complete."""
    with open(path, "rb") as stream:
        for index, chunks in enumerate(read_chunks(stream, path)):
            sizes = [
                check_pages(stream, chunk, path, keeps_dictionary=chunk.path in texts)
                for chunk in chunks
                if chunk.path in columns
            ]
            num_rows = max(1, min(MAX_BATCH_ROWS, BATCH_BYTES // max(sum(sizes), 1)))
            yield from table.iter_batches(num_rows, row_groups=[index], columns=columns, use_threads=False)


def _leaves(schema: pa.Schema, column: str) -> list[str]:
    """The columns of the file that hold the images: other parts of a struct, such as lists, are not read."""
    kind = schema.field(column).type
    if _kind(kind) != "struct":
        return [column]
    return [f"{column}.{name}" for name in ("bytes", "path") if kind.get_field_index(name) >= 0]


def _values(column: Any) -> list[Any]:
    """The cells. One that a dictionary holds is one object, in however many rows it is."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        indices = column.indices.to_pylist()
        used = sorted({index for index in indices if index is not None})
        if used and not 0 <= used[0] <= used[-1] < len(column.dictionary):
            raise ValueError("a row refers to a value that its dictionary does not have")
        cells = _values(column.dictionary.take(pa.array(used, pa.int64())))
        values = dict(zip(used, cells, strict=True))
        return [values.get(index) for index in indices]
    if pa.types.is_struct(column.type):
        names = [column.type.field(index).name for index in range(column.type.num_fields)]
        parts = [_values(column.field(index)) for index in range(column.type.num_fields)]
        is_there = column.is_valid().to_pylist()
        return [
            dict(zip(names, cells, strict=True)) if there else None
            for there, cells in zip(is_there, zip(*parts, strict=True), strict=True)
        ]
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
    if len(image) > MAX_MEMBER_BYTES:
        return unreadable(name, f"too large: {len(image):,} bytes, at most {MAX_MEMBER_BYTES:,}", label=label)
    return Item.of_bytes(name, image, label=label)
