"""Arrays: raw pixels in .npy, .npz and IDX files, read in pieces.

A .npy file is not mapped into memory: if it became shorter meanwhile, the system would end the process by SIGBUS.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from onward.errors import DataError, FeedError
from onward.images.idx import iterate_idx, read_idx_shape
from onward.limits import MAX_LABEL_CHARACTERS, mebibytes
from onward.npz import BROKEN_ARCHIVE, PYTHON_OBJECTS, ArrayHeader, read_array_header
from onward.sources.files import stamp_of
from onward.sources.source import Block, Images, Pixels, Source, unreadable
from onward.zip_files import open_zip

if TYPE_CHECKING:
    import zipfile

    from numpy.typing import NDArray

    from onward.signature import Signature

__all__ = ["idx", "npy", "npz"]

#: Pixels that are read or decompressed at a time.
PIECE_BYTES = 4 << 20
#: The same for a .npy file in Fortran order, of which a piece takes one access to the disk for each value of an image.
FORTRAN_PIECE_BYTES = 64 << 20
#: Each label takes 60 bytes, also beside images of one pixel.
MAX_PIECE_ROWS = 1 << 16
#: An array in Fortran order in a .npz file has to be read as a whole, and takes twice its size.
MAX_WHOLE_BYTES = 128 << 20
IMAGE_NAMES = ("images", "image", "x", "x_test", "X", "X_test", "data", "arr_0")
LABEL_NAMES = ("labels", "label", "y", "y_test", "targets", "target", "arr_1")


def npy(path: str, signature: Signature) -> Source:
    """The images of a .npy file.

    Raises:
        DataError: It is damaged or empty.
        FeedError: Its dtype or shape does not fit the signature.
    """
    with _reading(path, ".npy"), open(path, "rb") as stream:
        header, start = read_array_header(stream), stream.tell()
        found_bytes = os.fstat(stream.fileno()).st_size - start
    _check(path, header, signature)
    if found_bytes < header.size_bytes:
        raise DataError(
            f"{path} is a damaged .npy file: it states {header.size_bytes:,} bytes of images, but holds "
            f"{found_bytes:,}. Copy it again from its source."
        )
    num_rows = _rows_per_piece(signature, FORTRAN_PIECE_BYTES if header.is_fortran else PIECE_BYTES)

    def blocks() -> Iterator[Block]:
        return _blocks(path, _npy_pieces(path, header, num_rows), signature, stamp_of(path))

    return Source(blocks, lambda: header.shape[0])


def idx(path: str, signature: Signature) -> Source:
    """The images of an IDX file, plain or gzipped.

    Raises:
        DataError: Its header is damaged, or it is empty.
        FeedError: Its shape does not fit the signature.
    """
    shape = read_idx_shape(Path(path))
    _check(path, ArrayHeader(shape, np.dtype(np.uint8), False), signature)
    pieces = _rows_per_piece(signature)
    return Source(
        lambda: _blocks(path, iterate_idx(Path(path), pieces), signature, stamp_of(path)), lambda: int(shape[0])
    )


def npz(path: str, signature: Signature) -> Source:
    """The images of a .npz file: its only array of images, or the one with a usual name; with labels if it has some.

    Raises:
        DataError: It is damaged, or the array of the images is ambiguous.
        FeedError: The array's dtype or shape does not fit the signature, or it is too large for Fortran order.
    """
    with _reading(path), open_zip(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        headers = {name: _header(archive, name) for name in names}
    name = _choose(path, headers)
    header = headers[name]
    _check(f"{path}/{name}", header, signature)
    if header.is_fortran and header.size_bytes > MAX_WHOLE_BYTES:
        raise FeedError(
            f"{path}/{name} is in Fortran order and has {mebibytes(header.size_bytes)}, more than the "
            f"{mebibytes(MAX_WHOLE_BYTES)} that are read as a whole: save np.ascontiguousarray of it."
        )
    labels = _choose_labels(path, headers, name)
    label_bytes = 0 if labels is None else headers[labels].dtype.itemsize
    num_rows = _rows_per_piece(signature, row_bytes=math.prod(header.shape[1:]) + label_bytes)

    def blocks() -> Iterator[Block]:
        stamp = stamp_of(path)
        images = _npz_pieces(path, name, header, num_rows)
        texts = None if labels is None else _texts(path, _npz_pieces(path, labels, headers[labels], num_rows))
        return _blocks(f"{path}/{name}", images, signature, stamp, texts)

    return Source(blocks, lambda: header.shape[0])


def _blocks(
    name: str,
    pieces: Iterator[NDArray[Any]],
    signature: Signature,
    stamp: str,
    labels: Iterator[Sequence[str]] | None = None,
) -> Iterator[Block]:
    """Blocks of an array. If it turns out to be damaged, one unreadable item stands for the rest."""
    start = 0
    try:
        for piece in pieces:
            images = piece.reshape(-1, *signature.image_shape)
            yield Pixels(name, images, start, stamp, None if labels is None else next(labels))
            start += len(images)
    except DataError as error:
        yield Images([unreadable(f"{name}[{start}:]", str(error), stamp)])


def _rows_per_piece(signature: Signature, piece_bytes: int | None = None, row_bytes: int | None = None) -> int:
    """A power of two, so that batches seldom span two pieces."""
    fitting = (piece_bytes or PIECE_BYTES) // (row_bytes or math.prod(signature.image_shape))
    return 1 << (min(max(1, fitting), MAX_PIECE_ROWS).bit_length() - 1)


def _check(name: str, header: ArrayHeader, signature: Signature) -> None:
    shape, dtype = header.shape, header.dtype
    if dtype.hasobject:
        raise FeedError(f"{name} {PYTHON_OBJECTS}")
    if dtype != np.uint8:
        raise FeedError(f"{name} is {dtype}, expected uint8: raw pixels from 0 to 255.")
    height, width, channels = signature.image_shape
    if shape[1:] != signature.image_shape and not (channels == 1 and shape[1:] == (height, width)):
        grey = f" or (images, {height}, {width})" if channels == 1 else ""
        raise FeedError(
            f"{name} has shape {shape}, expected (images, {height}, {width}, {channels}){grey}. Arrays are not "
            f"resized; images are."
        )
    if not shape[0]:
        raise DataError(f"{name} contains no image: its shape is {shape}.")


def _header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
    with archive.open(f"{name}.npy") as stream:
        return read_array_header(stream)


def _choose(path: str, headers: dict[str, ArrayHeader]) -> str:
    if not headers:
        raise DataError(
            f"{path} contains no array: it is a zip archive without .npy files. Extract an archive of images first."
        )
    like_images = [name for name, (shape, dtype, _) in headers.items() if dtype == np.uint8 and len(shape) >= 3]
    usual = [name for name in IMAGE_NAMES if name in (like_images or headers)]
    for found in (like_images, usual, list(headers)):
        if len(found) == 1 or (found is usual and found):
            return found[0]
    raise DataError(f"{path} contains the arrays {', '.join(headers)}; name the one with the images 'images'.")


def _choose_labels(path: str, headers: dict[str, ArrayHeader], images: str) -> str | None:
    """The array of the labels, if there is one.

    Raises:
        DataError: Its texts are longer than any label.
    """
    num_images = headers[images].shape[:1]
    for name in LABEL_NAMES:
        header = headers.get(name)
        if header is None or name == images or header.shape != num_images or header.dtype.kind not in "iuU":
            continue
        num_characters = header.dtype.itemsize // 4
        if header.dtype.kind == "U" and num_characters > MAX_LABEL_CHARACTERS:
            raise DataError(
                f"{path}/{name} reserves {num_characters:,} characters for each label, at most "
                f"{MAX_LABEL_CHARACTERS:,}: save shorter labels, or rename the array if it holds none."
            )
        return name
    return None


def _texts(path: str, pieces: Iterator[NDArray[Any]]) -> Iterator[list[str]]:
    for piece in pieces:
        # numpy makes texts of any numbers, and Python then fails with a SystemError
        is_text = piece.dtype.kind == "U"
        if is_text and (piece.astype(piece.dtype.newbyteorder("=")).view(np.uint32) > sys.maxunicode).any():
            raise DataError(f"{path} has labels that are no Unicode: it is damaged.")
        yield [str(item) for item in piece.tolist()]


def _npy_pieces(path: str, header: ArrayHeader, count: int) -> Iterator[NDArray[Any]]:
    with _reading(path, ".npy"), open(path, "rb", buffering=0) as stream:
        if read_array_header(stream) != header:
            raise DataError(f"{path} has changed since it was opened: it is a different array.")
        start, (num_images, *image_shape) = stream.tell(), header.shape
        for first in range(0, num_images, count):
            length = min(count, num_images - first)
            if header.is_fortran:
                piece = _fortran_rows(stream, start + first, num_images, (length, *image_shape))
            else:
                piece = np.empty((length, *image_shape), np.uint8)
                _fill(stream, piece.reshape(-1))
            yield piece


def _fortran_rows(stream: IO[bytes], at: int, num_images: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Some images of an array in which all first values come first, then all second values, and so on."""
    columns = np.empty((math.prod(shape[1:]), shape[0]), np.uint8)
    for index, column in enumerate(columns):
        stream.seek(at + index * num_images)
        _fill(stream, column)
    return np.ascontiguousarray(columns.T.reshape(shape, order="F"))


def _fill(stream: IO[bytes], values: NDArray[Any]) -> None:
    left = memoryview(values.data)
    while left:
        num_bytes = stream.readinto(left)  # type: ignore[attr-defined]
        if not num_bytes:
            raise EOFError("it was cut short while it was read")
        left = left[num_bytes:]


def _npz_pieces(path: str, name: str, header: ArrayHeader, count: int) -> Iterator[NDArray[Any]]:
    with _reading(path), open_zip(path) as archive, archive.open(f"{name}.npy") as stream:
        if read_array_header(stream) != header:
            raise DataError(f"{path} has changed since it was opened: {name} is a different array.")
        shape, dtype, is_fortran = header
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        at_once = shape[0] if is_fortran else count  # in Fortran order, no row is complete before the end
        for start in range(0, shape[0], at_once):
            length = min(at_once, shape[0] - start)
            data = stream.read(length * row_bytes)
            if len(data) < length * row_bytes:
                raise DataError(
                    f"{path} is cut short: {name} states {shape[0]} images, fewer than {start + length} are there."
                )
            piece = np.frombuffer(data, dtype).reshape(length, *shape[1:], order="F" if is_fortran else "C")
            for first in range(0, length, count):
                yield np.ascontiguousarray(piece[first : first + count])
        if stream.read(1):  # reading to the end also checks the archive's checksum
            raise DataError(f"{path} goes on after the {shape[0]} images that {name} states.")


@contextmanager
def _reading(path: str, suffix: str = ".npz") -> Iterator[None]:
    """Errors of zipfile, zlib and numpy on a damaged file become a DataError that names it."""
    try:
        yield
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} is a damaged {suffix} file: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
