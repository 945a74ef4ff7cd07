"""Files: an image file by its path, and folders of them.

PathList: paths on a stream, read as they are asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from onward.errors import DataError, FeedError, ImageError
from onward.images.decode import IMAGE_SUFFIXES
from onward.sources.source import Block, Item, Source, Unreadable, blocks_of

__all__ = [
    "MAX_FILE_BYTES",
    "file_input",
    "folder",
    "has_image_suffix",
    "images",
    "inputs_within",
    "is_left_alone",
    "path_list",
    "read_file",
    "read_paths",
    "stamp_of",
]


#: A longer file is no image that anybody classifies, and would be read into memory as a whole.
MAX_FILE_BYTES = 512 << 20
SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))
#: What archivers leave behind.
IGNORED_FOLDERS = frozenset({"__MACOSX"})


def images(paths: Sequence[str]) -> Source:
    """Image files, one by one."""
    return Source(lambda: blocks_of(map(file_input, paths)), lambda: len(paths))


def folder(path: str) -> Source:
    """The images below a folder: files whose names end as those of images do, in the order of names.

    Hidden files and folders are left alone. Links to folders are followed, but not back into a folder that they lie
    in. The name of the folder that an image lies in is its label. One folder's names at a time are held in memory,
    some 70 bytes each.

    Raises:
        DataError: No image is there.
    """
    if next(_inputs(path), None) is None:
        raise DataError(
            f"{path} holds no image: no file in it or below it ends in {', '.join(SUFFIXES)}. Arrays, tar files and "
            f"tables are named one by one, or by a pattern such as '{path}/*.tar'."
        )
    return Source(lambda: blocks_of(_inputs(path)), lambda: sum(len(found) for found in _walk(path)))


def file_input(path: str, *, name: str | None = None, label: str | None = None) -> Item:
    """The image file at a path."""
    return Item(name or path, partial(read_file, path), stamp_of(path), label)


def inputs_within(path: str, items: Iterator[Item]) -> Iterator[Item]:
    """Inputs that lie in one file: its stamp comes with the first of them.

    Where the file turns out to be damaged, which `items` says by a DataError, one input that says so stands for the
    rest.
    """
    stamp, count = stamp_of(path), 0
    try:
        for item in items:
            yield item if count else replace(item, stamp=f"{stamp} {item.stamp}")
            count += 1
    except DataError as error:
        yield Unreadable(f"{path}[{count}:]", str(error), "" if count else stamp)


def stamp_of(path: str) -> str:
    """Size and time of the last change, or that there is nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def has_image_suffix(path: str) -> bool:
    """Whether a name ends as those of images do."""
    return path.lower().endswith(SUFFIXES)


def is_left_alone(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or what an archiver leaves behind."""
    return name[:1] == "." or name in IGNORED_FOLDERS


def read_file(path: str) -> bytes:
    """The bytes of a plain file.

    Raises:
        ImageError: It cannot be read, is no plain file, or is longer than any image.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("is a folder" if stat.S_ISDIR(found.st_mode) else "is no plain file")
        if found.st_size > MAX_FILE_BYTES:
            raise ImageError(f"too large: {found.st_size:,} bytes, at most {MAX_FILE_BYTES:,}")
        with open(path, "rb", buffering=0) as stream:
            return stream.read()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null character in a name
        raise ImageError(f"cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Folder:
    """One folder without those below it: the names of its images, or the reason why they cannot be told."""

    path: str
    images: Sequence[str] = ()
    reason: str = ""

    def __len__(self) -> int:
        return len(self.images) or bool(self.reason)

    def inputs(self) -> Iterator[Item]:
        if self.reason:
            yield Unreadable(self.path, self.reason)
        label = os.path.basename(os.path.abspath(self.path))
        for name in self.images:
            yield file_input(os.path.join(self.path, name), label=label)


def _inputs(path: str) -> Iterator[Item]:
    return (item for found in _walk(path) for item in found.inputs())


def _walk(path: str) -> Iterator[_Folder]:
    """A folder and those below it. No recursion: folders may lie deeper in one another than Python's calls may."""
    nothing: frozenset[tuple[int, int]] = frozenset()
    waiting = [(iter([path]), nothing)]
    while waiting:
        folders, within = waiting[-1]
        inner = next(folders, None)
        if inner is None:
            waiting.pop()
            continue
        try:
            found = os.stat(inner)
            here = (found.st_dev, found.st_ino)
            if here in within:
                yield _Folder(inner, reason="a link back to a folder that it lies in: not followed")
                continue
            names, below = _list(inner)
        except OSError as error:
            yield _Folder(inner, reason=f"the folder cannot be listed: {error.strerror}")
            continue
        yield _Folder(inner, names)
        del names  # a million names are not kept while the folders below are gone through
        waiting.append((map(partial(os.path.join, inner), below), within | {here}))


def _list(path: str) -> tuple[list[str], list[str]]:
    """The names of the images and of the folders in a folder, sorted."""
    files, folders = [], []
    with os.scandir(path) as listing:
        for entry in listing:
            if is_left_alone(entry.name):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            elif has_image_suffix(entry.name):
                files.append(entry.name)
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle
        return False


READ_BYTES = 1 << 16
#: No system takes a longer one: of what has no end, the beginning is a path that does not exist.
MAX_PATH_BYTES = 1 << 16


def path_list(stream: BinaryIO, open_one: Callable[[str], Source | None]) -> Source:
    """What a stream names, a path a line; it can be gone through once.

    A path that ends as those of images do is one, without a look at it. What cannot be opened is an input that gives
    no row, and the others go on.

    Args:
        stream: Paths, each ended by a newline, or each by a null character.
        open_one: The source of any other path, or None where it is an image; raises DataError or FeedError.
    """
    streams = [stream]

    def items() -> Iterator[Item | Block]:
        if not streams:
            raise DataError("a list of paths on standard input can be read only once; put it into a .csv file.")
        for path in read_paths(streams.pop()):
            if has_image_suffix(path):
                yield file_input(path)
            else:
                yield from _items(path, open_one)

    return Source(lambda: blocks_of(items()))


def _items(path: str, open_one: Callable[[str], Source | None]) -> Iterator[Item | Block]:
    try:
        source = open_one(path)
    except (DataError, FeedError) as error:
        yield Unreadable(path, str(error), stamp_of(path))
        return
    if source is None:
        yield file_input(path)
    else:
        yield from source.blocks()


def read_paths(stream: BinaryIO) -> Iterator[str]:
    """Paths that end with a null character where the first piece has one, else with a newline."""
    read = getattr(stream, "read1", stream.read)  # what a pipe holds now, rather than what it will
    piece = read(READ_BYTES)
    end, more = (b"\0", b"") if b"\0" in piece else (b"\n", b"\r")
    rest = b""
    while piece:
        *lines, last = piece.split(end)
        if lines:
            lines[0] = rest + lines[0]
            rest = b""
            yield from map(os.fsdecode, filter(None, (line.removesuffix(more) for line in lines)))
        if len(rest) < MAX_PATH_BYTES:
            rest += last
        piece = read(READ_BYTES)
    if rest:
        yield os.fsdecode(rest.removesuffix(more))
