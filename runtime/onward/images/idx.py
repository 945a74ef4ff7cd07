"""IDX: the array format of MNIST and Fashion-MNIST, plain or gzipped.

Source: http://yann.lecun.com/exdb/mnist/ ("the IDX file format").
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from onward.errors import DataError

try:  # isal decompresses twice as fast, and releases the GIL
    from isal import igzip, isal_zlib

    open_gzip = igzip.open
    DAMAGED: tuple[type[Exception], ...] = (isal_zlib.error, zlib.error, gzip.BadGzipFile)
except ImportError:
    open_gzip = gzip.open
    DAMAGED = (zlib.error, gzip.BadGzipFile)

__all__ = ["is_idx", "iterate_idx", "read_idx", "read_idx_shape"]

DAMAGED_OR_CUT: tuple[type[Exception], ...] = (EOFError, *DAMAGED)
GZIP_MAGIC = b"\x1f\x8b"
UINT8 = 0x08
PIECE_BYTES = 64 << 20


def is_idx(path: Path) -> bool:
    """Whether the file begins like an IDX array of uint8, plain or gzipped."""
    try:
        with _open(path) as stream:
            head = stream.read(4)
    except DAMAGED_OR_CUT:
        return True  # a damaged gzip file: reading it reports that
    except OSError:
        return False
    return len(head) == 4 and head[:3] == bytes((0, 0, UINT8)) and 1 <= head[3] <= 4


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The whole array, uint8, in the shape that the header states.

    Raises:
        DataError: It is not an IDX file, or is cut short.
    """
    shape = read_idx_shape(path)
    chunks = list(iterate_idx(path, max(shape[0], 1)))
    return chunks[0] if chunks else np.empty(shape, np.uint8)


def read_idx_shape(path: Path) -> tuple[int, ...]:
    """The shape that the header states."""
    with _reading(path), _open(path) as stream:
        return _read_header(stream, path)


def iterate_idx(path: Path, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Slices of `batch_size` along the first axis, the last one shorter, without holding the file in memory.

    If the file is cut short, its complete items come before the error.

    Raises:
        DataError: It is not an IDX file, or is cut short.
    """
    with _reading(path), _open(path) as stream:
        count, *item_shape = _read_header(stream, path)
        item_bytes = math.prod(item_shape)
        for start in range(0, count, batch_size):
            length = min(batch_size, count - start)
            data = _read_up_to(stream, length * item_bytes)
            whole = len(data) // item_bytes if item_bytes else length
            if whole:
                yield np.frombuffer(data, np.uint8, whole * item_bytes).reshape(whole, *item_shape)
            if whole < length:
                raise DataError(f"{path} is cut short: its header states {count} items, {start + whole} are there.")
        _check_end(stream, path, count)


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as probe:
        zipped = probe.read(2) == GZIP_MAGIC
    return cast(BinaryIO, open_gzip(path)) if zipped else path.open("rb")


def _read_up_to(stream: BinaryIO, num_bytes: int) -> bytes:
    # a damaged header may state more than memory holds: allocate only what is there
    pieces: list[bytes] = []
    while num_bytes and (piece := stream.read(min(num_bytes, PIECE_BYTES))):
        pieces.append(piece)
        num_bytes -= len(piece)
    return b"".join(pieces) if len(pieces) != 1 else pieces[0]


def _check_end(stream: BinaryIO, path: Path, count: int) -> None:
    try:
        more = stream.read(1)  # reading to the end also checks gzip's checksum
    except DAMAGED_OR_CUT as error:
        raise DataError(f"{path} is damaged or cut short after its last item: {error}.") from error
    if more:
        raise DataError(f"{path} goes on after the {count} items that its header states.")


def _read_header(stream: BinaryIO, path: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UINT8 or magic[3] == 0:
        raise DataError(f"{path} is not an IDX file of uint8: it begins with {magic.hex(' ') or 'nothing'}.")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path} is cut short inside its header.")
    return struct.unpack(f">{magic[3]}I", sizes)


class _reading:
    """Errors of gzip and of the system become a DataError that names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, EOFError):
            raise DataError(f"{self.path} is cut short: its gzip stream ends too early.") from error
        if isinstance(error, DAMAGED):
            raise DataError(f"{self.path} is damaged: {error}.") from error
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{self.path} does not exist.") from error
        if isinstance(error, OSError):
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error
