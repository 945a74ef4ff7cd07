"""Stream: the bytes of a file, in one pass, unpacked on the way where it is compressed."""

from __future__ import annotations

import bz2
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from onward.errors import DataError
from onward.images.idx import DAMAGED, open_gzip

__all__ = ["COMPRESSED", "open_stream"]

#: How each format begins, and what opens it.
COMPRESSED = {b"\x1f\x8b": open_gzip, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
READ_BYTES = 256 << 10
BROKEN: tuple[type[Exception], ...] = (*DAMAGED, lzma.LZMAError)


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file, plain or compressed by gzip, bzip2 or xz, told apart by its first bytes.

    What the system and the formats say of a broken file while it is read here becomes a DataError that names it.

    Raises:
        DataError: The file cannot be read, is damaged or cut short.
    """
    try:
        with (
            open(path, "rb", buffering=0) as file,
            io.BufferedReader(file, READ_BYTES) as stream,
            _unpacked(stream) as unpacked,
        ):
            yield unpacked
    except EOFError as error:
        raise DataError(f"{path} is cut short: its compressed stream ends too early.") from error
    except BROKEN as error:
        raise DataError(f"{path} is damaged: {error}.") from error
    except OSError as error:  # bzip2's, too
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _unpacked(stream: io.BufferedReader[Any]) -> BinaryIO:
    head = stream.peek(8)
    for magic, opener in COMPRESSED.items():
        if head.startswith(magic):
            # the unpackers' own `read` is Python's, and slow for many small pieces
            return io.BufferedReader(cast(io.RawIOBase, opener(stream)), READ_BYTES)
    return stream
