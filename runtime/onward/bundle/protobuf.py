"""ProtobufReader: reads a file in protobuf's wire format field by field; large fields are skipped and never loaded.

It does not know what the fields mean. Numbers and lengths come from a file that may be cut short or hostile: each is
checked against the end of its message before anything is read.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from onward.errors import BundleError

__all__ = ["Field", "ProtobufReader", "Span"]

WINDOW_BYTES = 16384
MAX_VARINT_BYTES = 10
#: More than any tensor has axes.
MAX_NUMBERS = 1024
#: The longest text: names are short, and labels of 20,000 classes take 1 MB.
MAX_TEXT_BYTES = 1 << 24
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


class Span(NamedTuple):
    """Bytes of the file, from `start` up to, but not including, `end`."""

    start: int
    end: int

    @property
    def size_bytes(self) -> int:
        """The number of bytes."""
        return self.end - self.start


class Field(NamedTuple):
    """One field of a message.

    Args:
        number: Its number in the definition of the message, from 1.
        value: A number, or the span of a text, a message or an array; None for 4 or 8 fixed bytes, which are not read.
        position: Its first byte in the file.
    """

    number: int
    value: int | Span | None
    position: int


class ProtobufReader:
    """Reads a file that holds one message.

    Args:
        stream: The file, open for reading in binary.
        name: The name of the file in error messages.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.stream = stream
        self.name = name
        self.whole = Span(0, stream.seek(0, 2))
        self._window, self._window_start = b"", 0

    def fields(self, span: Span) -> Iterator[Field]:
        """The fields of a message.

        Raises:
            BundleError: The bytes are not protobuf, or a field ends beyond the message.
        """
        position, end = span
        while position < end:
            start = position
            key, position = self._varint(position, end)
            number, kind = key >> 3, key & 7
            value: int | Span | None = None
            if kind == VARINT:
                value, position = self._varint(position, end)
            elif kind == LENGTH_DELIMITED:
                length, position = self._varint(position, end)
                value = Span(position, position + length)
                position += length
            elif kind in (FIXED32, FIXED64):
                position += 4 if kind == FIXED32 else 8
            else:
                raise self.broken(start, f"a field is of wire type {kind}, which ONNX does not use")
            if number == 0:
                raise self.broken(start, "a field has the number 0")
            if position > end:
                raise self.broken(start, f"a field begins that ends at byte {position:,}, beyond the end at {end:,}")
            yield Field(number, value, start)

    def number(self, field: Field) -> int:
        """The field as int64."""
        if not isinstance(field.value, int):
            raise self.broken(field.position, f"field {field.number} is no whole number")
        return _signed(field.value)

    def numbers(self, field: Field) -> list[int]:
        """The numbers of a repeated int64: one number, or several packed ones; of very many, the first."""
        if not isinstance(field.value, Span):
            return [self.number(field)]
        numbers: list[int] = []
        position, end = field.value
        while position < end and len(numbers) <= MAX_NUMBERS:
            number, position = self._varint(position, end)
            numbers.append(_signed(number))
        return numbers

    def span(self, field: Field) -> Span:
        """The span of the message or the array in the field."""
        if not isinstance(field.value, Span):
            raise self.broken(field.position, f"field {field.number} is a number, where a message or text belongs")
        return field.value

    def text(self, field: Field) -> str:
        """The field as text; bytes that are not UTF-8 become U+FFFD."""
        span = self.span(field)
        if span.size_bytes > MAX_TEXT_BYTES:
            raise self.broken(field.position, f"a text has {span.size_bytes:,} bytes, at most {MAX_TEXT_BYTES:,} fit")
        return self._read(span.start, span.size_bytes).decode("utf-8", "replace")

    def broken(self, position: int, reason: str) -> BundleError:
        """The error that the file cannot be read."""
        return BundleError(
            f"{self.name} is neither a bundle, nor a checkpoint, nor an ONNX model that is whole: at byte "
            f"{position:,} of {self.whole.end:,}, {reason}."
        )

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """An unsigned number and the position after it."""
        value = 0
        for index, byte in enumerate(self._read(position, min(MAX_VARINT_BYTES, end - position))):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position + index + 1
        raise self.broken(position, "a number begins that does not end")

    def _read(self, start: int, size_bytes: int) -> bytes:
        offset = start - self._window_start
        if offset < 0 or offset + size_bytes > len(self._window):
            self.stream.seek(start)
            self._window, self._window_start = self.stream.read(max(size_bytes, WINDOW_BYTES)), start
            offset = 0
            if len(self._window) < size_bytes:
                raise self.broken(start, "the file ends: it grew shorter while it was read")
        return self._window[offset : offset + size_bytes]


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number
