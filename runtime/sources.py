"""Sources: folders of images, single images, .npy and IDX become batches. They know no model and no sink."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError, FeedError, ImageError
from runtime.idx import is_idx, iterate_idx, read_idx_shape
from runtime.images import IMAGE_SUFFIXES, read_image
from runtime.signature import Signature

__all__ = ["Batch", "Failure", "Source", "open_sources", "prefetch"]

Item = TypeVar("Item")
NPY_MAGIC = b"\x93NUMPY"
AHEAD = 2


@dataclass(frozen=True)
class Failure:
    """One input that gave no row."""

    input: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Some inputs, in order.

    Args:
        names: One per image.
        images: uint8 `(batch, height, width, channels)`.
        failures: Inputs met on the way that could not be read.
    """

    names: Sequence[str]
    images: NDArray[np.uint8]
    failures: tuple[Failure, ...] = field(default=())


@dataclass(frozen=True)
class Source:
    """Inputs that can be read in batches.

    Args:
        num_inputs: How many there are.
        batches: Batch size -> the batches, in the order of the inputs.
    """

    num_inputs: int
    batches: Callable[[int], Iterator[Batch]]


def open_sources(paths: Sequence[Path], signature: Signature) -> Source:
    """One source over several paths, told apart by content.

    Args:
        paths: Folders (read recursively, in the order of their names), image files, .npy or IDX files.
        signature: What an image has to become.

    Raises:
        DataError: A path is missing, empty, or an array that does not fit.
    """
    sources = [_open_source(path, signature) for path in paths]
    if len(sources) == 1:
        return sources[0]
    return Source(
        sum(source.num_inputs for source in sources),
        lambda batch_size: (batch for source in sources for batch in source.batches(batch_size)),
    )


def prefetch(items: Iterable[Item], ahead: int = AHEAD) -> Iterator[Item]:
    """Run an iterator in a thread, at most `ahead` items in front of its consumer."""
    done = object()
    shelf: queue.Queue[object] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                shelf.put(item, timeout=0.1)
                break
            except queue.Full:
                pass

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(done)
        except BaseException as error:  # raised again where the items are consumed
            put(error)

    worker = threading.Thread(target=work, name="onward-source", daemon=True)
    worker.start()
    try:
        while (item := shelf.get()) is not done:
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        worker.join()


def _open_source(path: Path, signature: Signature) -> Source:
    if path.is_dir():
        files = _image_files(path)
        if not files:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DataError(f"{path} holds no image: no file in it or below it ends in {suffixes}.")
        return _image_source(files, path, signature)
    if not path.is_file():
        raise DataError(f"{path} does not exist.")
    if is_idx(path):
        return _array_source(path, read_idx_shape(path), lambda size: iterate_idx(path, size), signature)
    with path.open("rb") as stream:
        if stream.read(6) == NPY_MAGIC:
            return _npy_source(path, signature)
    return _image_source([path], path.parent, signature)


def _image_files(folder: Path) -> list[Path]:
    return [
        Path(parent, name)
        for parent, folders, names in os.walk(folder)
        for name in (folders.sort(), sorted(names))[1]
        if Path(name).suffix.lower() in IMAGE_SUFFIXES
    ]


def _image_source(files: Sequence[Path], root: Path, signature: Signature) -> Source:
    def read(file: Path) -> NDArray[np.uint8] | str:
        try:
            return read_image(file, signature)
        except ImageError as error:
            return str(error)

    def batches(batch_size: int) -> Iterator[Batch]:
        remaining = iter(files)
        with ThreadPoolExecutor(thread_name_prefix="onward-decode") as pool:
            while chunk := list(islice(remaining, batch_size)):
                names = [file.relative_to(root).as_posix() for file in chunk]
                results = list(zip(names, pool.map(read, chunk), strict=True))
                good = [(name, image) for name, image in results if not isinstance(image, str)]
                yield Batch(
                    names=[name for name, _ in good],
                    images=np.stack([image for _, image in good])
                    if good
                    else np.empty((0, *signature.image_shape), np.uint8),
                    failures=tuple(Failure(name, why) for name, why in results if isinstance(why, str)),
                )

    return Source(len(files), batches)


def _npy_source(path: Path, signature: Signature) -> Source:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is a damaged .npy file: {error}.") from error
    if array.dtype != np.uint8:
        raise FeedError(f"{path} holds {array.dtype}, expected uint8: raw pixels from 0 to 255.")

    def slices(batch_size: int) -> Iterator[NDArray[np.uint8]]:
        return (array[start : start + batch_size] for start in range(0, len(array), batch_size))

    return _array_source(path, array.shape, slices, signature)


def _array_source(
    path: Path,
    shape: tuple[int, ...],
    slices: Callable[[int], Iterator[NDArray[np.uint8]]],
    signature: Signature,
) -> Source:
    height, width, channels = signature.image_shape
    if shape[1:] != signature.image_shape and not (channels == 1 and shape[1:] == (height, width)):
        grey = f" or (images, {height}, {width})" if channels == 1 else ""
        raise FeedError(
            f"{path} has shape {shape}, expected (images, {height}, {width}, {channels}){grey}. Arrays are not "
            f"resized; images are."
        )
    if not shape[0]:
        raise DataError(f"{path} holds no image: its shape is {shape}.")

    name = path.name

    def batches(batch_size: int) -> Iterator[Batch]:
        start = 0
        for images in slices(batch_size):
            names = [f"{name}[{index}]" for index in range(start, start + len(images))]
            yield Batch(names, images.reshape(-1, height, width, channels))
            start += len(images)

    return Source(shape[0], batches)
