"""Zip files: archives whose directory is short, and whose members can be decompressed in pieces."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from onward.limits import MAX_DIRECTORY_BYTES, mebibytes

__all__ = ["BROKEN_ZIP", "is_zip", "open_zip"]

#: What reading the members of a damaged archive raises.
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, KeyError, ValueError)

#: zipfile decompresses bzip2 and LZMA without a limit: 4 kB can become 4 GB in one step.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DIRECTORY_SIZE = 5


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does; it may be damaged."""
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, struct.error):  # Python looks further at an archive that states to be very large
        return True


@contextmanager
def open_zip(file: str | Path | IO[bytes]) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive.

    Raises:
        zipfile.BadZipFile: It is no archive, its directory is too long, or a member is compressed by another method
            than deflate.
        OSError: It cannot be read.

    Source: Python, `zipfile._EndRecData`.
    """
    with Path(file).open("rb") if isinstance(file, (str, Path)) else file as stream:
        try:
            end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
        except struct.error as error:
            raise zipfile.BadZipFile(f"its end cannot be read: {error}") from error
        if end and end[DIRECTORY_SIZE] > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(
                f"the list of its members has {mebibytes(end[DIRECTORY_SIZE])}, at most "
                f"{mebibytes(MAX_DIRECTORY_BYTES)}"
            )
        try:
            opened = zipfile.ZipFile(stream)
        except NotImplementedError as error:  # it states a version of the format that Python does not know
            raise zipfile.BadZipFile(str(error)) from error
        with opened as archive:
            for member in archive.infolist():
                if member.compress_type not in METHODS:
                    name = zipfile.compressor_names.get(member.compress_type)  # type: ignore[attr-defined]
                    raise zipfile.BadZipFile(
                        f"{member.filename} is compressed by {name or f'method {member.compress_type}'}, expected "
                        f"deflate or no compression"
                    )
            yield archive
