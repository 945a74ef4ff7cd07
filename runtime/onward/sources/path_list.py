"""PathList: paths on a stream, read as they are asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import BinaryIO

from onward.errors import DataError, FeedError
from onward.sources.block import Block, Input, Unreadable, blocks_of
from onward.sources.files import file_input, has_image_suffix, stamp_of
from onward.sources.source import Source

__all__ = ["path_list", "read_paths"]

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

    def items() -> Iterator[Input | Block]:
        if not streams:
            raise DataError("a list of paths on standard input can be read only once; put it into a .csv file.")
        for path in read_paths(streams.pop()):
            if has_image_suffix(path):
                yield file_input(path)
            else:
                yield from _items(path, open_one)

    return Source(lambda: blocks_of(items()))


def _items(path: str, open_one: Callable[[str], Source | None]) -> Iterator[Input | Block]:
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
