"""Parquet pages: how large a column is, page by page, read from the headers of the pages and before any is unpacked.

A page is decompressed as a whole, so that a header of a few bytes can ask for 2 GB.

Source: apache/parquet-format, parquet.thrift (`PageHeader`), and Thrift's compact protocol.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from onward.errors import DataError
from onward.limits import allowed_bytes, mebibytes

__all__ = ["PageHeader", "check_pages", "read_pages"]

DELTA_BYTE_ARRAY = 7
#: Thrift's compact types.
TRUE, FALSE, BYTE, DOUBLE, BINARY, STRUCT = 1, 2, 3, 7, 8, 12
#: Structs within structs; a page header has two.
MAX_DEPTH = 8
UNPACKED_BYTES, PACKED_BYTES = 2, 3
DICTIONARY = 7
#: Field of the page header -> fields of the number of values and of the encoding in it.
KINDS = {5: (1, 2), DICTIONARY: (1, 2), 8: (1, 4)}


class PageHeader(NamedTuple):
    """What the header of a page states.

    Args:
        unpacked_bytes: Size once it is decompressed.
        packed_bytes: Size in the file.
        num_values: Number of values, null ones too.
        encoding: As parquet.thrift numbers them.
        is_dictionary: Whether its values are those that other pages refer to.
    """

    unpacked_bytes: int
    packed_bytes: int
    num_values: int
    encoding: int
    is_dictionary: bool = False

    @property
    def value_bytes(self) -> int:
        """What a value takes on average; or at most, where each may repeat the one before it."""
        return self.unpacked_bytes // (1 if self.encoding == DELTA_BYTE_ARRAY else max(self.num_values, 1))


def check_pages(stream: BinaryIO, chunk: Any, path: str, *, keeps_dictionary: bool) -> int:
    """Check that the pages of a column chunk unpack to about their size; how much a value takes in the largest of them.

    Args:
        stream: The file.
        chunk: pyarrow's `ColumnChunkMetaData`.
        path: Of the file, for errors.
        keeps_dictionary: Whether a value of a dictionary is in memory once, in however many rows it is.

    Raises:
        DataError: A page would unpack to far more, or a header is damaged.
    """
    largest = 0
    for page in read_pages(stream, chunk, path):
        if page.unpacked_bytes > (limit := allowed_bytes(page.packed_bytes)):
            raise DataError(
                f"{path} has a page of {mebibytes(page.packed_bytes)} in its column {chunk.path_in_schema!r} that "
                f"would unpack to {mebibytes(page.unpacked_bytes)}, at most {mebibytes(limit)}: write smaller pages."
            )
        if page.is_dictionary:
            largest = max(largest, 0 if keeps_dictionary else page.unpacked_bytes)
        else:
            largest = max(largest, page.value_bytes)
    return largest


def read_pages(stream: BinaryIO, chunk: Any, path: str) -> Iterator[PageHeader]:
    """The pages of a column chunk.

    Raises:
        DataError: A header is damaged.
    """
    offsets = (chunk.dictionary_page_offset if chunk.has_dictionary_page else None, chunk.data_page_offset)
    start = min(filter(None, offsets), default=0)
    end = start + chunk.total_compressed_size
    while start < end:
        stream.seek(start)
        try:
            page = _page(_Compact(stream).struct(0))
        except (EOFError, ValueError) as error:
            raise DataError(f"{path} is damaged: the page at byte {start:,} cannot be read: {error}.") from error
        yield page
        start = stream.tell() + page.packed_bytes


def _page(header: dict[int, Any]) -> PageHeader:
    sizes = header.get(UNPACKED_BYTES), header.get(PACKED_BYTES)
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        raise ValueError("its header states no size")
    for field, (count, encoding) in KINDS.items():
        if isinstance(kind := header.get(field), dict):
            numbers = int(kind.get(count) or 0), int(kind.get(encoding) or 0)
            return PageHeader(*sizes, *numbers, field == DICTIONARY)  # type: ignore[arg-type]
    return PageHeader(*sizes, 0, 0)  # type: ignore[arg-type]


class _Compact:
    """Thrift's compact protocol: numbers and structs are read, all else is skipped."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def struct(self, depth: int) -> dict[int, Any]:
        """Field -> value."""
        if depth > MAX_DEPTH:
            raise ValueError("structs are within structs")
        fields: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            kind, step = head & 15, head >> 4
            field = field + step if step else self.number()
            fields[field] = self.value(kind, depth)
        return fields

    def value(self, kind: int, depth: int) -> Any:
        if kind in (TRUE, FALSE):
            return kind == TRUE
        if kind == BYTE:
            return self.byte()
        if kind < DOUBLE:
            return self.number()
        if kind == STRUCT:
            return self.struct(depth + 1)
        if kind not in (DOUBLE, BINARY):
            raise ValueError(f"its header has a part of type {kind}")
        self.stream.seek(8 if kind == DOUBLE else self.varint(), io.SEEK_CUR)
        return None

    def number(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number does not end")

    def byte(self) -> int:
        data = self.stream.read(1)
        if not data:
            raise EOFError("the file ends")
        return data[0]
