"""Tar: the members of an archive, plain or compressed, in one pass.

Python's tarfile takes a damaged header in the middle, and an archive that is cut between two members, for its end; and
it keeps every header that it has read. Here both are errors, and no header is kept.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from onward.errors import DataError
from onward.images.idx import DAMAGED, open_gzip

__all__ = ["COMPRESSED", "HEADER_BYTES", "is_tar", "open_stream", "read_data", "read_members"]

#: The first bytes of each compressed format, and its opener.
COMPRESSED = {b"\x1f\x8b": open_gzip, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
READ_BYTES = 256 << 10
BROKEN: tuple[type[Exception], ...] = (*DAMAGED, lzma.LZMAError)
HEADER_BYTES = 512
#: Limit of long names and attributes. A header that states more is damaged, or an attempt to fill the memory.
MAX_EXTENSION_BYTES = 1 << 20
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed if its first bytes say gzip, bzip2 or xz.

    Errors of the system and of the formats, here and while the file is read, become a DataError that names the file.

    Raises:
        DataError: The file cannot be read, is damaged or cut short.
    """
    try:
        with (
            open(path, "rb", buffering=0) as file,
            io.BufferedReader(file, READ_BYTES) as stream,
            _decompressed(stream) as decompressed,
        ):
            yield decompressed
    except EOFError as error:
        raise DataError(f"{path} is cut short: its compressed stream ends too early.") from error
    except BROKEN as error:
        raise DataError(f"{path} is damaged: {error}.") from error
    except OSError as error:  # bzip2 raises it for damaged data too
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is an archive. Formats older than 1988 are not recognised."""
    return head[257:262] == b"ustar"


def read_members(stream: BinaryIO, path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an archive, or of several concatenated ones, each with the archive to read its data from.

    Read a member's data before the next member is taken.

    Args:
        stream: The archive, at its beginning.
        path: Its path, for errors.

    Raises:
        DataError: A header is damaged, or the end of the archive is missing.
    """
    try:
        with _Archive.open(
            fileobj=stream, mode="r|", tarinfo=_Member, errors="surrogateescape", ignore_zeros=True
        ) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them
                yield archive, member
    except _Damaged as error:
        raise DataError(f"{path} is not a tar file, or damaged: {error}.") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is cut short or damaged: {error}.") from error


def read_data(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bytes:
    """The data of the member that `read_members` has just yielded.

    Raises:
        DataError: It is cut short.
    """
    stream = archive.extractfile(member)
    try:
        data = stream.read() if stream else b""
    except tarfile.ReadError as error:
        raise DataError(f"{path} is cut short inside {member.name}.") from error
    if len(data) < member.size:
        raise DataError(f"{path} is cut short inside {member.name}.")
    return data


def _decompressed(stream: io.BufferedReader[Any]) -> BinaryIO:
    head = stream.peek(8)
    for magic, opener in COMPRESSED.items():
        if head.startswith(magic):
            # `read` of the decompressors is written in Python, and slow for many small pieces
            return io.BufferedReader(cast(io.RawIOBase, opener(stream)), READ_BYTES)
    return stream


class _Damaged(Exception):
    """A damaged header, or an end without its mark."""


class _Archive(tarfile.TarFile):
    has_ended = False


class _Member(tarfile.TarInfo):
    """A header; a damaged one is never taken for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        assert isinstance(archive, _Archive)
        at = archive.offset
        try:
            member = super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            archive.has_ended = True
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            if archive.has_ended:
                raise
            raise _Damaged("it is cut short: the mark of a tar file's end is missing") from error
        except tarfile.TruncatedHeaderError as error:  # type: ignore[attr-defined]
            raise _Damaged(f"it is cut short inside the header at byte {at:,}") from error
        except tarfile.HeaderError as error:
            raise _Damaged(f"the header at byte {at:,} cannot be read: {error}") from error
        archive.has_ended = False
        if member.size < 0:
            raise _Damaged(f"the header at byte {at:,} cannot be read: it states {member.size:,} bytes")
        return member

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENSIONS and not 0 <= member.size <= MAX_EXTENSION_BYTES:
            raise _Damaged(f"a header cannot be read: it states {member.size:,} bytes")
        return member
