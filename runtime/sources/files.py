"""Files: an image file by its path, and folders of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import PurePath

from runtime.errors import DataError, ImageError
from runtime.images import IMAGE_SUFFIXES
from runtime.sources.block import Input, Unreadable, blocks_of
from runtime.sources.source import Source

__all__ = ["MAX_FILE_BYTES", "file_input", "folder", "has_image_suffix", "read_file", "stamp_of"]

#: A longer file is no image that anybody classifies, and would be read into memory as a whole.
MAX_FILE_BYTES = 512 << 20
#: What archivers leave behind.
IGNORED_FOLDERS = frozenset({"__MACOSX"})


def folder(path: str) -> Source:
    """The images below a folder: files whose names end as those of images do, in the order of names.

    Hidden files and folders are left alone. Links to folders are followed, but not back into a folder that they lie
    in. The name of the folder that an image lies in is its label. One folder's names at a time are held in memory,
    some 70 bytes each.

    Raises:
        DataError: No image is there.
    """
    if next(_walk(path), None) is None:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
        raise DataError(
            f"{path} holds no image: no file in it or below it ends in {suffixes}. Arrays, tar files and tables are "
            f"named one by one, or by a pattern such as '{path}/*.tar'."
        )
    return Source(lambda: blocks_of(_walk(path)), lambda: sum(1 for _ in _walk(path)))


def file_input(path: str, *, name: str | None = None, label: str | None = None) -> Input:
    """The image file at a path."""
    return Input(name or path, partial(read_file, path), stamp_of(path), label)


def stamp_of(path: str) -> str:
    """Size and time of the last change, or that there is nothing."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return "gone"
    return f"{found.st_size} {found.st_mtime_ns}"


def has_image_suffix(path: str) -> bool:
    """Whether a name ends as those of images do."""
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


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


def _walk(path: str, within: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Input]:
    try:
        found = os.stat(path)
        files, folders = _list(path)
    except OSError as error:
        yield Unreadable(path, f"the folder cannot be listed: {error.strerror}")
        return
    here = (found.st_dev, found.st_ino)
    if here in within:
        yield Unreadable(path, "a link back to a folder that it lies in: not followed")
        return
    label = PurePath(path).name
    for name in files:
        yield file_input(os.path.join(path, name), label=label)
    del files  # a million names are not kept while the folders below are gone through
    for name in folders:
        yield from _walk(os.path.join(path, name), within | {here})


def _list(path: str) -> tuple[list[str], list[str]]:
    """The names of the images and of the folders in a folder, sorted; hidden ones are left alone."""
    files, folders = [], []
    with os.scandir(path) as listing:
        for entry in listing:
            if entry.name[0] == "." or entry.name in IGNORED_FOLDERS:
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
