"""Tar: the members of an archive, plain or compressed, in one pass, by Python's tarfile, made strict.

tarfile takes a damaged header in the middle, and an archive that is cut between two members, for its end; and it keeps
every header that it has read.
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


#: How each format begins, and what opens it.
COMPRESSED = {b"\x1f\x8b": open_gzip, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
READ_BYTES = 256 << 10
BROKEN: tuple[type[Exception], ...] = (*DAMAGED, lzma.LZMAError)


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """The bytes of a file, plain or compressed by gzip, bzip2 or xz, told apart by its first bytes.

    What the system and the formats say of a broken file while it is read here becomes a DataError that names it.

    Raises:
        DataError: The file cannot be read, is damaged or cut short.
    """
    try:
        with (
            open(path, "rb", buffering=0) as file,
            io.BufferedReader(file, READ_BYTES) as stream,
            _unpacked(stream) as unpacked,
        ):
            yield unpacked
    except EOFError as error:
        raise DataError(f"{path} is cut short: its compressed stream ends too early.") from error
    except BROKEN as error:
        raise DataError(f"{path} is damaged: {error}.") from error
    except OSError as error:  # bzip2's, too
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _unpacked(stream: io.BufferedReader[Any]) -> BinaryIO:
    head = stream.peek(8)
    for magic, opener in COMPRESSED.items():
        if head.startswith(magic):
            # the unpackers' own `read` is Python's, and slow for many small pieces
            return io.BufferedReader(cast(io.RawIOBase, opener(stream)), READ_BYTES)
    return stream


HEADER_BYTES = 512
#: Long names and attributes; a header that states more is damaged, or means to fill the memory.
MAX_EXTENSION_BYTES = 1 << 20
EXTENSIONS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


def is_tar(head: bytes) -> bool:
    """Whether a file that begins with these 512 bytes is an archive; those of before 1988 are not told."""
    return head[257:262] == b"ustar"


def read_members(stream: BinaryIO, path: str) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of an archive, or of several one after the other, each with the archive to read its data from.

    A member's data may be read until the next member is asked for.

    Args:
        stream: At its beginning.
        path: Of the archive, for errors.

    Raises:
        DataError: A header is damaged, or the archive does not end as one does.
    """
    try:
        with _Archive.open(
            fileobj=stream, mode="r|", tarinfo=_Member, errors="surrogateescape", ignore_zeros=True
        ) as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # or a million of them are kept
                yield archive, member
    except _Damaged as error:
        raise DataError(f"{path} is no tar file, or damaged: {error}.") from error
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is cut short or damaged: {error}.") from error


def read_data(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> bytes:
    """The data of the member that has just been given.

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


class _Damaged(Exception):
    """A header that cannot be one, or an end that is none."""


class _Archive(tarfile.TarFile):
    has_ended = False


class _Member(tarfile.TarInfo):
    """A header that is never taken for the end of the archive."""

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
