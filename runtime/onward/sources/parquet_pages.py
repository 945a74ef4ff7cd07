"""Parquet pages: how large a column is, page by page, read from the headers of the pages and before any is unpacked.

A page is decompressed as a whole, so that a header of a few bytes can ask for 2 GB. The columns are read from the
footer here, too: pyarrow's `RowGroupMetaData.column` ends the process on some damaged footers.

Source: apache/parquet-format, parquet.thrift (`FileMetaData`, `PageHeader`), and Thrift's compact protocol.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from onward.errors import DataError
from onward.limits import allowed_bytes, mebibytes

__all__ = ["ColumnChunk", "PageHeader", "check_pages", "read_chunks", "read_pages"]

DELTA_BYTE_ARRAY = 7
#: Thrift's compact types.
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
#: Of a column's name.
MAX_NAME_BYTES = 1 << 16
#: Structs and lists within others; a footer has six.
MAX_DEPTH = 12
UNPACKED_BYTES, PACKED_BYTES = 2, 3
DICTIONARY = 7
#: Field of the page header -> fields of the number of values and of the encoding in it.
KINDS = {5: (1, 2), DICTIONARY: (1, 2), 8: (1, 4)}
#: Field -> what is read of it: None is a value, or a list of values; other fields are skipped.
Wanted = dict[int, Any]
PAGE: Wanted = {UNPACKED_BYTES: None, PACKED_BYTES: None} | {kind: dict.fromkeys(KINDS[kind]) for kind in KINDS}
ROW_GROUPS, COLUMNS, META_DATA = 4, 1, 3
ENCODINGS, PATH, NUM_VALUES, SIZE_BYTES, DATA_PAGE, DICTIONARY_PAGE = 2, 3, 5, 7, 9, 11
FOOTER: Wanted = {
    ROW_GROUPS: {
        COLUMNS: {META_DATA: dict.fromkeys((ENCODINGS, PATH, NUM_VALUES, SIZE_BYTES, DATA_PAGE, DICTIONARY_PAGE))}
    }
}
#: Old writers forgot the header of the dictionary in a column's size. pyarrow allows for so much, too.
MAX_UNCOUNTED_BYTES = 100
#: Bits of Thrift's whole numbers. Its own readers cut off what a number has beyond them.
BITS = {4: 16, 5: 32, 6: 64}
#: What a damaged file makes of this module's code.
DAMAGE = (AttributeError, EOFError, KeyError, OSError, OverflowError, TypeError, ValueError)


class ColumnChunk(NamedTuple):
    """A column within one row group.

    Args:
        path: Its name; of a part of a struct, `struct.part`.
        start: Its first byte in the file.
        size_bytes: Its size in the file.
        num_values: Number of values, null ones too.
        encodings: As parquet.thrift numbers them.
    """

    path: str
    start: int
    size_bytes: int
    num_values: int
    encodings: tuple[int, ...]

    @property
    def has_delta(self) -> bool:
        """Whether a value may repeat the beginning of the one before it."""
        return DELTA_BYTE_ARRAY in self.encodings


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


def read_chunks(stream: BinaryIO, path: str) -> list[list[ColumnChunk]]:
    """The columns of each row group, read from the footer of a file that pyarrow has opened.

    Raises:
        DataError: The footer is damaged.
    """
    end = stream.seek(-8, io.SEEK_END)
    size_bytes = int.from_bytes(stream.read(4), "little")
    stream.seek(end - size_bytes)
    try:
        footer = _Compact(stream).struct(FOOTER)
        return [[_chunk(column[META_DATA]) for column in group[COLUMNS]] for group in footer.get(ROW_GROUPS, [])]
    except DAMAGE as error:
        raise DataError(f"{path} is damaged: its footer cannot be read.") from error


def _chunk(fields: dict[int, Any]) -> ColumnChunk:
    starts = [_whole(fields[key]) for key in (DICTIONARY_PAGE, DATA_PAGE) if fields.get(key)]
    numbers = _whole(fields[SIZE_BYTES]), _whole(fields[NUM_VALUES])
    name = b".".join(fields[PATH]).decode()
    return ColumnChunk(name, min(starts, default=0), *numbers, tuple(map(_whole, fields[ENCODINGS])))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("it states no number where one is needed")
    return value


def check_pages(stream: BinaryIO, chunk: ColumnChunk, path: str, *, keeps_dictionary: bool) -> int:
    """Check that the pages of a column chunk unpack to about their size; how much a value takes in the largest of them.

    Args:
        stream: The file.
        chunk: The column.
        path: Of the file, for errors.
        keeps_dictionary: Whether a value of a dictionary is in memory once, in however many rows it is.

    Raises:
        DataError: A page would unpack to far more, a header is damaged, or the pages have other values than the column.
    """
    largest = num_values = 0
    for page in read_pages(stream, chunk, path):
        if page.unpacked_bytes > (limit := allowed_bytes(page.packed_bytes)):
            raise DataError(
                f"{path} has a page of {mebibytes(page.packed_bytes)} in its column {chunk.path!r} that "
                f"would unpack to {mebibytes(page.unpacked_bytes)}, at most {mebibytes(limit)}: write smaller pages."
            )
        if page.is_dictionary:
            largest = max(largest, 0 if keeps_dictionary else page.unpacked_bytes)
        else:
            largest = max(largest, page.value_bytes)
            num_values += page.num_values
    if num_values != chunk.num_values:  # pyarrow would look for the others without end
        raise DataError(
            f"{path} is damaged: its column {chunk.path!r} states {chunk.num_values:,} values, its pages "
            f"{num_values:,}."
        )
    return largest


def read_pages(stream: BinaryIO, chunk: ColumnChunk, path: str) -> Iterator[PageHeader]:
    """The pages of a column chunk.

    Raises:
        DataError: A header is damaged.
    """
    start, end = chunk.start, chunk.start + chunk.size_bytes
    while start < end:
        try:
            stream.seek(start)
            page = _page(_Compact(stream).struct(PAGE))
            if page.packed_bytes > chunk.size_bytes + MAX_UNCOUNTED_BYTES:
                raise ValueError("it is longer than its column")
        except DAMAGE as error:
            raise DataError(f"{path} is damaged: the page at byte {start:,} cannot be read: {error}.") from error
        yield page
        start = stream.tell() + page.packed_bytes


def _page(header: dict[int, Any]) -> PageHeader:
    sizes = _whole(header.get(UNPACKED_BYTES)), _whole(header.get(PACKED_BYTES))
    for field, (count, encoding) in KINDS.items():
        if isinstance(kind := header.get(field), dict):
            return PageHeader(*sizes, _whole(kind.get(count, 0)), _whole(kind.get(encoding, 0)), field == DICTIONARY)
    return PageHeader(*sizes, 0, 0)


class _Compact:
    """Thrift's compact protocol: what is wanted is read, all else is skipped."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream

    def struct(self, wanted: Wanted, depth: int = 0) -> dict[int, Any]:
        """Field -> value, of the fields that are wanted."""
        fields: dict[int, Any] = {}
        field = 0
        while head := self.byte():
            kind, step = head & 15, head >> 4
            field = field + step if step else self.number(16)
            value = kind == TRUE if kind in (TRUE, FALSE) else self.value(kind, wanted, field, depth)
            if field in wanted:
                fields[field] = value
        return fields

    def value(self, kind: int, wanted: Wanted, field: int, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("structs are within structs")
        if kind <= BYTE:
            return self.byte()
        if kind < DOUBLE:
            return self.number(BITS[kind])
        if kind == STRUCT:
            return self.struct(wanted.get(field) or {}, depth + 1)
        if kind in (LIST, SET):
            return self.list(wanted, field, depth + 1)
        if kind == DOUBLE:
            return [self.byte() for _ in range(8)]
        if kind != BINARY:
            raise ValueError(f"its header has a part of type {kind}")
        size = self.varint()
        if field in wanted:
            return self.stream.read(min(size, MAX_NAME_BYTES))
        self.stream.seek(size, io.SEEK_CUR)
        return None

    def list(self, wanted: Wanted, field: int, depth: int) -> Any:
        head = self.byte()
        num_values = self.varint() if head >> 4 == 15 else head >> 4
        values = (self.value(head & 15, wanted, field, depth) for _ in range(num_values))
        if field in wanted:
            return [*values]
        for _ in values:
            pass
        return None

    def number(self, num_bits: int) -> int:
        value = self.varint()
        if value >> num_bits:
            raise ValueError(f"a number has more than {num_bits} bits")
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
