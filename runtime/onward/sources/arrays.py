"""Arrays: raw pixels in .npy files, mapped into memory, and in .npz and IDX files, read in pieces."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onward.errors import DataError, FeedError
from onward.images.idx import iterate_idx, read_idx_shape
from onward.sources.files import stamp_of
from onward.sources.source import Block, Images, Pixels, Source, unreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from onward.signature import Signature

__all__ = ["idx", "npy", "npz"]

#: Shape, dtype, and whether the array is in Fortran order.
Header = tuple[tuple[int, ...], "np.dtype[Any]", bool]

#: numpy's errors for a damaged header.
BROKEN_ARRAY = (ValueError, EOFError, OverflowError, tokenize.TokenError)
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, *BROKEN_ARRAY)
#: Pixels that are decompressed at a time.
PIECE_BYTES = 4 << 20
#: An array in Fortran order has to be read as a whole.
MAX_WHOLE_BYTES = 512 << 20
IMAGE_NAMES = ("images", "image", "x", "x_test", "X", "X_test", "data", "arr_0")
LABEL_NAMES = ("labels", "label", "y", "y_test", "targets", "target", "arr_1")


def npy(path: str, signature: Signature) -> Source:
    """The images of a .npy file, mapped into memory.

    Raises:
        DataError: It is damaged or empty.
        FeedError: Its dtype or shape does not fit the signature.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, *BROKEN_ARRAY) as error:
        raise DataError(f"{path} is a damaged .npy file: {error}.") from error
    _check(path, array.dtype, array.shape, signature)
    images = np.asarray(array).reshape(-1, *signature.image_shape)
    return Source(lambda: iter([Pixels(path, images, stamp=stamp_of(path))]), lambda: len(images))


def idx(path: str, signature: Signature) -> Source:
    """The images of an IDX file, plain or gzipped.

    Raises:
        DataError: Its header is damaged, or it is empty.
        FeedError: Its shape does not fit the signature.
    """
    shape = read_idx_shape(Path(path))
    _check(path, np.dtype(np.uint8), shape, signature)
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
    with _reading(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        headers = {name: _header(archive, name) for name in names}
    name = _choose(path, headers)
    shape, dtype, is_fortran = headers[name]
    _check(f"{path}/{name}", dtype, shape, signature)
    if is_fortran and math.prod(shape) > MAX_WHOLE_BYTES:
        raise FeedError(
            f"{path}/{name} is in Fortran order and too large to read as a whole: save np.ascontiguousarray of it."
        )
    labels = _choose_labels(headers, name, shape[0])
    # in Fortran order, no row is complete before the end
    num_rows = int(shape[0]) if is_fortran else _rows_per_piece(signature)

    def blocks() -> Iterator[Block]:
        stamp = stamp_of(path)
        images = _npz_pieces(path, name, headers[name], num_rows)
        texts = None if labels is None else _texts(_npz_pieces(path, labels, headers[labels], num_rows))
        return _blocks(f"{path}/{name}", images, signature, stamp, texts)

    return Source(blocks, lambda: int(shape[0]))


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
        yield Images([unreadable(f"{name}[{start}:]", str(error), "" if start else stamp)])


def _rows_per_piece(signature: Signature) -> int:
    """A power of two, so that batches seldom span two pieces."""
    fitting = max(1, PIECE_BYTES // int(np.prod(signature.image_shape)))
    return 1 << (fitting.bit_length() - 1)


def _check(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], signature: Signature) -> None:
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


def _header(archive: zipfile.ZipFile, name: str) -> Header:
    with archive.open(f"{name}.npy") as stream:
        return _read_header(stream)


def _read_header(stream: Any) -> Header:
    major, _ = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    return tuple(shape), dtype, is_fortran


def _choose(path: str, headers: dict[str, Header]) -> str:
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


def _choose_labels(headers: dict[str, Header], images: str, count: int) -> str | None:
    def fits(name: str) -> bool:
        shape, dtype, _ = headers[name]
        return name != images and shape == (count,) and dtype.kind in "iuU"

    return next((name for name in LABEL_NAMES if name in headers and fits(name)), None)


def _texts(pieces: Iterator[NDArray[Any]]) -> Iterator[list[str]]:
    return ([str(item) for item in piece.tolist()] for piece in pieces)


def _npz_pieces(path: str, name: str, header: Header, count: int) -> Iterator[NDArray[Any]]:
    with _reading(path), zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as stream:
        if _read_header(stream) != header:
            raise DataError(f"{path} has changed since it was opened: {name} is a different array.")
        shape, dtype, is_fortran = header
        row_bytes = math.prod(shape[1:]) * dtype.itemsize
        for start in range(0, shape[0], count):
            length = min(count, shape[0] - start)
            data = stream.read(length * row_bytes)
            if len(data) < length * row_bytes:
                raise DataError(
                    f"{path} is cut short: {name} states {shape[0]} images, fewer than {start + length} are there."
                )
            piece = np.frombuffer(data, dtype).reshape(length, *shape[1:], order="F" if is_fortran else "C")
            yield np.ascontiguousarray(piece)
        if stream.read(1):  # reading to the end also checks the archive's checksum
            raise DataError(f"{path} goes on after the {shape[0]} images that {name} states.")


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Errors of zipfile, zlib and numpy on a damaged archive become a DataError that names it."""
    try:
        yield
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path} is a damaged .npz file: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
