"""Opening: what somebody names becomes a source, told apart by content."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import BinaryIO

from runtime.errors import DataError, FeedError
from runtime.signature import Signature
from runtime.sources.block import BLOCK_IMAGES, Block, Images, Input, Unreadable
from runtime.sources.files import file_input, folder, has_image_suffix, stamp_of
from runtime.sources.source import Source, chain

__all__ = ["STDIN", "open_sources"]

STDIN = "-"
HEAD_BYTES = 512
MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PAR1": "parquet"}
TAR_MAGIC_AT, TAR_MAGIC = 257, b"ustar"
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
READ_BYTES = 1 << 16


def open_sources(
    paths: Sequence[str | Path], signature: Signature, *, column: str | None = None, stdin: BinaryIO | None = None
) -> Source:
    """One source over several paths, told apart by content; rows are named by the path as it is given here.

    Args:
        paths: Folders, image files, .npy, .npz and IDX files (.gz too), tar files, Parquet and CSV tables; patterns
            such as `'shards/*.tar'`; `-` for paths on standard input, each ended by a newline or a null character.
        signature: What an image has to become.
        column: Of a table, the one that holds the images or their paths; by default one of a usual name.
        stdin: Where `-` reads from.

    Raises:
        DataError: A path is missing, empty, or damaged from the start.
        FeedError: An array does not fit the signature.
    """
    return chain([_open_argument(os.fspath(path), signature, column, stdin) for path in paths])


def _open_argument(path: str, signature: Signature, column: str | None, stdin: BinaryIO | None) -> Source:
    if path == STDIN:
        return _listed(_read_paths(stdin or sys.stdin.buffer), signature, column)
    if not os.path.lexists(path) and glob.has_magic(path):
        found = sorted(glob.iglob(path, recursive=True))
        if not found:
            raise DataError(f"no path fits the pattern {path!r}.")
        return chain([_open(item, signature, column) for item in found])
    return _open(path, signature, column)


def _open(path: str, signature: Signature, column: str | None) -> Source:
    if os.path.isdir(path):
        return folder(path)
    if not os.path.isfile(path):
        raise DataError(f"{path} is no plain file." if os.path.exists(path) else f"{path} does not exist.")
    match _kind(path):
        case "npy" | "npz" | "idx" as kind:
            from runtime.sources import arrays

            return {"npy": arrays.npy, "npz": arrays.npz, "idx": arrays.idx}[kind](path, signature)
        case "tar":
            from runtime.sources.shards import shard

            return shard(path)
        case "parquet":
            from runtime.sources.parquet import parquet

            return parquet(path, column)
        case "csv":
            from runtime.sources.listing import listing

            return listing(path, column)
        case _:
            return Source(lambda: iter([Images([file_input(path)])]), lambda: 1)


def _kind(path: str) -> str:
    """What a file is by its first bytes; a table of text has none of its own, and is told by its name."""
    try:
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(HEAD_BYTES)
    except OSError:
        return "image"  # reading it says why not
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[TAR_MAGIC_AT:].startswith(TAR_MAGIC):
        return "tar"
    if head.startswith(COMPRESSED) or head[:2] == b"\0\0":
        from runtime.idx import is_idx

        suffixes = PurePath(path.lower()).suffixes
        if ".tar" in suffixes[-2:] or suffixes[-1:] in ([".tgz"], [".tbz2"], [".txz"]):
            return "tar"
        if is_idx(Path(path)):
            return "idx"
    return "csv" if path.lower().endswith((".csv", ".tsv")) else "image"


def _listed(paths: Iterator[str], signature: Signature, column: str | None) -> Source:
    """What a list names: what cannot be opened is an input that gives no row, and the others go on."""

    def blocks() -> Iterator[Block]:
        gathered: list[Input] = []
        for path in paths:
            if has_image_suffix(path):
                gathered.append(file_input(path))
            else:
                yield Images(gathered)
                gathered = []
                yield from _try(path)
            if len(gathered) == BLOCK_IMAGES:
                yield Images(gathered)
                gathered = []
        yield Images(gathered)

    def _try(path: str) -> Iterator[Block]:
        try:
            yield from _open(path, signature, column).blocks()
        except (DataError, FeedError) as error:
            yield Images([Unreadable(path, str(error), stamp_of(path))])

    return Source(blocks)


def _read_paths(stream: BinaryIO) -> Iterator[str]:
    """Paths that end with a null character where the first piece has one, else with a newline."""
    piece = stream.read1(READ_BYTES) if hasattr(stream, "read1") else stream.read(READ_BYTES)
    end = b"\0" if b"\0" in piece else b"\n"
    rest = b""
    while piece:
        *lines, rest = (rest + piece).split(end)
        yield from (os.fsdecode(line.removesuffix(b"\r") if end == b"\n" else line) for line in lines if line)
        piece = stream.read(READ_BYTES)
    if rest:
        yield os.fsdecode(rest)
