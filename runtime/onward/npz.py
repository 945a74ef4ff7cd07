"""Npz: arrays of numpy in zip archives. Sizes are read, and compared with the limits, before memory is taken."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onward.errors import DataError
from onward.limits import allowed_bytes, mebibytes
from onward.zip_files import BROKEN_ZIP, open_zip

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "BROKEN_ARCHIVE",
    "BROKEN_ARRAY",
    "PYTHON_OBJECTS",
    "ArrayHeader",
    "read_array_header",
    "read_arrays",
    "write_arrays",
]

#: numpy's errors for a damaged header.
BROKEN_ARRAY = (ValueError, EOFError, OverflowError, TypeError, tokenize.TokenError)
BROKEN_ARCHIVE = (*BROKEN_ZIP, *BROKEN_ARRAY)
#: What is wrong with an array whose dtype is `object`.
PYTHON_OBJECTS = (
    "holds Python objects, which are never loaded because they can run code: save it with a numeric dtype, e.g. "
    "np.stack(images).astype(np.uint8), or a list of texts as np.array(texts, str)."
)
#: numpy refuses a longer header, but only after it has read it.
MAX_HEADER_BYTES = 10_000


class ArrayHeader(NamedTuple):
    """What an array states about itself.

    Args:
        shape: Its shape.
        dtype: Its dtype.
        is_fortran: Whether it is in Fortran order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    @property
    def size_bytes(self) -> int:
        """The size of its values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_array_header(stream: IO[bytes]) -> ArrayHeader:
    """The header of a .npy file; the stream is then at its first value.

    Raises:
        ValueError, and others of `BROKEN_ARRAY`: The header is damaged, or too long.

    Source: numpy, `numpy.lib.format`, "Format Version 1.0", "2.0" and "3.0".
    """
    start = stream.read(8)
    is_first = start[6:7] == b"\x01"
    length = stream.read(2 if is_first else 4)
    num_bytes = int.from_bytes(length, "little")
    if num_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"its header has {num_bytes:,} bytes, at most {MAX_HEADER_BYTES:,}")
    whole = io.BytesIO(start + length + stream.read(num_bytes))
    np.lib.format.read_magic(whole)
    read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    try:
        shape, is_fortran, dtype = read(whole)
    except (SyntaxError, RecursionError, MemoryError) as error:  # of Python's parser
        raise ValueError("its header cannot be parsed") from error
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    return ArrayHeader(tuple(shape), dtype, is_fortran)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz, compressed; the same arrays give the same bytes.

    numpy's own `savez` takes names as arguments: an array cannot be named `file`, nor, depending on numpy's version,
    `allow_pickle`.

    Raises:
        ValueError: An array holds Python objects.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)


def read_arrays(data: bytes, what: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays of an .npz, by name.

    Args:
        data: The content of the file.
        what: Its name, for errors.

    Raises:
        DataError: It is damaged, needs pickle, or would take far more memory than its size.
    """
    limit, left = allowed_bytes(len(data)), allowed_bytes(len(data))
    try:
        with open_zip(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                with archive.open(name) as stream:
                    header = read_array_header(stream)
                    left -= header.size_bytes
                    if left < 0:
                        raise DataError(
                            f"{what} would take more than {mebibytes(limit)} of memory, the limit for a file of "
                            f"{mebibytes(len(data))}: {name} alone has shape {header.shape} and dtype {header.dtype}."
                        )
                    yield name.removesuffix(".npy"), _read_array(stream, header, name, what)
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{what} is no archive of arrays, or damaged: {error}.") from error


def _read_array(stream: IO[bytes], header: ArrayHeader, name: str, what: str) -> NDArray[Any]:
    if header.dtype.hasobject:
        raise DataError(f"{what}: {name} {PYTHON_OBJECTS}")
    array = np.empty(header.size_bytes, np.uint8)
    if stream.readinto(array) < len(array) or stream.read(1):  # type: ignore[attr-defined]
        raise ValueError(f"{name} has another number of values than its shape {header.shape}")
    return array.view(header.dtype).reshape(header.shape, order="F" if header.is_fortran else "C")
