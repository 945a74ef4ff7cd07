"""Opening: the paths that a user names become one source. Content decides how a path is read, not its name."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from onward.errors import DataError
from onward.images.idx import is_idx
from onward.signature import Signature
from onward.sources.files import folder, has_image_suffix, image_files, path_list
from onward.sources.source import Source, chain
from onward.sources.tar import COMPRESSED, HEADER_BYTES, is_tar, open_stream

__all__ = ["STDIN", "open_sources"]

STDIN = "-"
MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PAR1": "parquet"}
#: Decides where the content does not: text has no magic bytes, and a truncated file may have lost them.
SUFFIXES = {
    "csv": (".csv", ".tsv"),
    "npy": (".npy",),
    "npz": (".npz",),
    "parquet": (".parquet",),
    "tar": (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz"),
}


def open_sources(
    paths: Sequence[str | Path], signature: Signature, *, column: str | None = None, stdin: BinaryIO | None = None
) -> Source:
    """Open one source over several paths. Rows are named by the paths as they are given here.

    Args:
        paths: Folders, image files, .npy, .npz and IDX files (.gz too), tar files, Parquet and CSV tables; patterns
            such as `'shards/*.tar'`; `-` for paths on standard input, each ended by a newline or a null character.
            Files from a pattern or from standard input with an image suffix are taken for images without a look.
        signature: Size and channels of an image.
        column: The column of a table that holds the images or their paths; by default the first with a usual name.
        stdin: Replaces standard input for `-`.

    Returns:
        A source that can be iterated as often as needed; with `-`, once.

    Raises:
        DataError: A path is missing, empty, or damaged at its beginning.
        FeedError: An array does not fit the signature.
    """
    arguments = [os.fspath(path) for path in paths]
    if arguments.count(STDIN) > 1:
        raise DataError(f"{STDIN!r} is given {arguments.count(STDIN)} times; standard input can be read only once.")
    open_one = partial(_open, signature=signature, column=column)
    sources: list[Source] = []
    for kind, group in groupby(_expand(arguments), key=lambda item: item[0]):
        if kind == "image":
            sources.append(image_files([path for _, path in group]))
        elif kind == STDIN:
            sources.append(path_list(stdin or sys.stdin.buffer, partial(_open_listed, open_one)))
        else:
            sources += [open_one(kind, path) for _, path in group]
    return chain(sources)


def _expand(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Kind and path of each argument, patterns expanded."""
    for path in arguments:
        if path == STDIN:
            yield STDIN, path
        elif not os.path.lexists(path) and glob.has_magic(path):
            yield from _matches(path)
        else:
            yield _kind(path), path


def _matches(pattern: str) -> Iterator[tuple[str, str]]:
    found = sorted(glob.iglob(pattern, recursive=True))
    if not found:
        raise DataError(f"no path matches the pattern {pattern!r}.")
    for path in found:
        # opening a million images only to see that they are images would take long
        kind = "image" if has_image_suffix(path) else _kind(path)
        if kind != "folder" or "**" not in pattern:  # `**` matches the files in a folder too
            yield kind, path


def _open_listed(open_one: Callable[[str, str], Source], path: str) -> Source | None:
    kind = _kind(path)
    return None if kind == "image" else open_one(kind, path)


def _open(kind: str, path: str, *, signature: Signature, column: str | None) -> Source:
    match kind:
        case "folder":
            return folder(path)
        case "npy" | "npz" | "idx":
            from onward.sources import arrays

            return {"npy": arrays.npy, "npz": arrays.npz, "idx": arrays.idx}[kind](path, signature)
        case "tar":
            from onward.sources.shards import shard

            return shard(path)
        case "parquet":
            from onward.sources.parquet import parquet

            return parquet(path, column)
        case _:
            from onward.sources.tables import csv_table

            return csv_table(path, column)


def _kind(path: str) -> str:
    """The kind of a path, by its first bytes, else by its suffix."""
    if os.path.isdir(path):
        return "folder"
    if not os.path.isfile(path):
        raise DataError(f"{path} is not a regular file." if os.path.exists(path) else f"{path} does not exist.")
    try:
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(HEADER_BYTES)
    except OSError:
        return "image"  # reading it reports the reason
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    by_suffix = next((kind for kind, suffixes in SUFFIXES.items() if path.lower().endswith(suffixes)), "image")
    if is_tar(head) or (head.startswith(tuple(COMPRESSED)) and (by_suffix == "tar" or _is_compressed_tar(path))):
        return "tar"
    if head.startswith((b"\0\0", b"\x1f\x8b")) and is_idx(Path(path)):
        return "idx"
    return by_suffix


def _is_compressed_tar(path: str) -> bool:
    try:
        with open_stream(path) as stream:
            return is_tar(stream.read(HEADER_BYTES))
    except DataError:
        return False
