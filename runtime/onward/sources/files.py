"""Files: image files by their paths: one by one, below a folder, or from a list of paths on a stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from onward.errors import DataError, FeedError, ImageError
from onward.images.decode import IMAGE_SUFFIXES
from onward.sources.left_alone import LeftAlone, add_up, describe_left_alone
from onward.sources.source import Block, ClassName, Item, Source, in_blocks, unreadable

__all__ = [
    "MAX_FILE_BYTES",
    "folder",
    "has_image_suffix",
    "image_file",
    "image_files",
    "is_ignored",
    "items_within",
    "path_list",
    "read_file",
    "read_paths",
    "stamp_of",
]

#: A larger file is no image to classify, and would be read into memory as a whole.
MAX_FILE_BYTES = 512 << 20
SUFFIXES = tuple(sorted(IMAGE_SUFFIXES))
#: Folders that archivers leave behind.
IGNORED_FOLDERS = frozenset({"__MACOSX"})
READ_BYTES = 1 << 16
#: No system allows a longer path. A longer line is cut, and its beginning is a path that does not exist.
MAX_PATH_BYTES = 1 << 16


def image_files(paths: Sequence[str]) -> Source:
    """Image files, one by one."""
    return Source(lambda: in_blocks(map(image_file, paths)), lambda: len(paths))


def folder(path: str) -> Source:
    """The images below a folder: files with an image suffix, sorted by name. Other files are counted.

    Hidden files and folders are ignored. Links to folders are followed, except a link back to a folder that contains
    it. The label of an image is the name of its folder. Memory holds the names of one folder at a time, about 70 bytes
    each.

    Raises:
        DataError: There is no image.
    """
    left_alone = LeftAlone()
    if next(_items_below(path, left_alone), None) is None:
        others = f" Left alone: {describe_left_alone(left_alone.counts)}." if left_alone.counts else ""
        raise DataError(
            f"{path} contains no image: no file in it or below it ends in {', '.join(SUFFIXES)}.{others} Name arrays, "
            f"tar files and tables one by one, or by a pattern such as '{path}/*.tar'."
        )

    def items() -> Iterator[Item]:
        left_alone.counts.clear()
        yield from _items_below(path, left_alone)

    return Source(
        lambda: in_blocks(items()),
        lambda: sum(len(found) for found in _walk(path, LeftAlone())),
        lambda: left_alone.counts,
    )


def path_list(stream: BinaryIO, open_one: Callable[[str], Source | None]) -> Source:
    """The paths on a stream, one a line. It can be iterated once.

    A path with an image suffix is an image, without a look at the file. A path that cannot be opened becomes an
    unreadable item, and the others go on.

    Args:
        stream: Paths, all ended by a newline or all by a null character.
        open_one: Path -> its source, or None for an image; raises DataError or FeedError. Called for all other paths.
    """
    streams = [stream]
    opened: list[Source] = []

    def items() -> Iterator[Item | Block]:
        if not streams:
            raise DataError(
                "the list of paths on standard input can be read only once; put it into a .csv file to read it again."
            )
        for path in read_paths(streams.pop()):
            if has_image_suffix(path):
                yield image_file(path)
            else:
                yield from _opened(path, open_one, opened)

    return Source(
        lambda: in_blocks(items()),
        left_alone=lambda: add_up(source.left_alone() for source in opened),
        is_repeatable=False,
    )


def image_file(path: str, *, name: str | None = None, label: str | None = None) -> Item:
    """The image file at a path."""
    return Item(name or path, partial(read_file, path), stamp_of(path), label)


def items_within(path: str, items: Iterator[Item]) -> Iterator[Item]:
    """The items that one file contains. Each also carries the file's stamp.

    If the file turns out to be damaged, which `items` reports by a DataError, one unreadable item stands for the rest.
    """
    stamp, count = stamp_of(path), 0
    try:
        for item in items:
            yield replace(item, stamp=f"{stamp} {item.stamp}")
            count += 1
    except DataError as error:
        yield unreadable(f"{path}[{count}:]", str(error), stamp)


def stamp_of(path: str) -> str:
    """Size and time of the last change, or `gone`."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def has_image_suffix(path: str) -> bool:
    """Whether the path ends in the suffix of an image format."""
    return path.lower().endswith(SUFFIXES)


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by an archiver."""
    return name[:1] == "." or name in IGNORED_FOLDERS


def read_file(path: str) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: It cannot be read, is not a regular file, or is larger than any image.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("is a folder" if stat.S_ISDIR(found.st_mode) else "is not a regular file")
        if found.st_size > MAX_FILE_BYTES:
            raise ImageError(f"too large: {found.st_size:,} bytes, at most {MAX_FILE_BYTES:,}")
        with open(path, "rb", buffering=0) as stream:
            return stream.read()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a null character in the path
        raise ImageError(f"cannot be read: {error}") from error


def read_paths(stream: BinaryIO) -> Iterator[str]:
    """Paths that end with a null character if the first piece contains one, else with a newline."""
    read = getattr(stream, "read1", stream.read)  # returns what a pipe holds now, without waiting for more
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


def _opened(path: str, open_one: Callable[[str], Source | None], opened: list[Source]) -> Iterator[Item | Block]:
    """The items of a path that is no image by its name; a source that it opens is added to `opened`."""
    try:
        source = open_one(path)
    except (DataError, FeedError) as error:
        yield unreadable(path, str(error), stamp_of(path))
        return
    if source is None:
        yield image_file(path)
    else:
        opened.append(source)
        yield from source.blocks()


@dataclass(frozen=True, slots=True)
class _Folder:
    """One folder without its subfolders: the names of its images, or the reason why they cannot be listed."""

    path: str
    images: Sequence[str] = ()
    reason: str = ""

    def __len__(self) -> int:
        return len(self.images) or bool(self.reason)

    def items(self) -> Iterator[Item]:
        if self.reason:
            yield unreadable(self.path, self.reason)
        label = ClassName(os.path.basename(os.path.abspath(self.path)))
        for name in self.images:
            yield image_file(os.path.join(self.path, name), label=label)


def _items_below(path: str, left_alone: LeftAlone) -> Iterator[Item]:
    return (item for found in _walk(path, left_alone) for item in found.items())


def _walk(path: str, left_alone: LeftAlone) -> Iterator[_Folder]:
    """A folder and its subfolders; their other files are counted.

    Not recursive: folders may be nested deeper than Python's calls.
    """
    no_parents: frozenset[tuple[int, int]] = frozenset()
    stack = [(iter([path]), no_parents)]
    while stack:
        folders, parents = stack[-1]
        current = next(folders, None)
        if current is None:
            stack.pop()
            continue
        try:
            found = os.stat(current)
            identity = (found.st_dev, found.st_ino)
            if identity in parents:
                yield _Folder(current, reason="a link back to a folder that contains it: not followed")
                continue
            names, subfolders = _list(current, left_alone)
        except OSError as error:
            yield _Folder(current, reason=f"the folder cannot be listed: {error.strerror}")
            continue
        yield _Folder(current, names)
        del names  # do not hold a million names while the subfolders are read
        stack.append((map(partial(os.path.join, current), subfolders), parents | {identity}))


def _list(path: str, left_alone: LeftAlone) -> tuple[list[str], list[str]]:
    """The names of the images and of the subfolders of a folder, sorted."""
    files, folders = [], []
    with os.scandir(path) as listing:
        for entry in listing:
            if is_ignored(entry.name):
                continue
            if _is_folder(entry):
                folders.append(entry.name)
            elif has_image_suffix(entry.name):
                files.append(entry.name)
            else:
                left_alone.add_file(entry.name)
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
