from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.errors import DataError
from onward.sources.tar import read_data, read_members

LAW = settings(max_examples=150, deadline=None)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
#: Without a slash at the end, which tarfile removes, and without an empty name.
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=90)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TYPES = [tarfile.REGTYPE, tarfile.CONTTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
MEMBERS = st.lists(st.tuples(PATHS, st.binary(max_size=1500), st.sampled_from(TYPES), st.integers(0, 1 << 34)))


def archive(members: list[tuple[str, bytes, bytes, int]], form: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=FORMATS[form]) as writer:
        for name, data, kind, mtime in members:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, mtime, f"to/{name[:50]}"
            info.size = len(data) if info.isreg() else 0
            writer.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def read(data: bytes) -> Iterator[tuple[str, bytes]]:
    stream = io.BytesIO(data)
    for archive, member in read_members(stream, "x.tar"):
        yield member.name, read_data(archive, member, "x.tar") if member.isreg() else b""


@LAW
@given(MEMBERS, st.sampled_from(list(FORMATS)))
def test_in_one_pass_every_member_is_read_as_tarfile_reads_it(members: Any, form: str) -> None:
    try:
        data = archive(members, form)
    except ValueError:
        return  # a name too long for the old format
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as reader:
        streams = [(info.name, reader.extractfile(info) if info.isreg() else None) for info in reader]
        expected = [(name, stored.read() if stored else b"") for name, stored in streams]
    assert list(read(data)) == expected


def test_archives_one_after_the_other_are_read_as_one() -> None:
    first = archive([("a", b"1", tarfile.REGTYPE, 0)], "pax")
    second = archive([("b", b"2", tarfile.REGTYPE, 0)], "gnu")
    assert [name for name, *_ in read(first + second)] == ["a", "b"]


def test_a_name_that_is_not_utf8_is_kept_byte_by_byte() -> None:
    data = archive([("\udcff\udcfe.png", b"", tarfile.REGTYPE, 0)], "gnu")
    assert next(read(data))[0] == "\udcff\udcfe.png"


@LAW
@given(st.data())
def test_an_archive_cut_anywhere_gives_what_is_before_the_cut_and_says_so(data: st.DataObject) -> None:
    members = [(f"{index}.png", bytes([index]) * 700, tarfile.REGTYPE, 0) for index in range(4)]
    whole = archive(members, "pax").rstrip(b"\0") + bytes(1024)
    where = data.draw(st.integers(0, len(whole) - 1024))
    found = []
    with pytest.raises(DataError, match=r"x\.tar is (cut short|not a tar file)"):
        for row in read(whole[:where]):
            found.append(row[0])
    assert found == [f"{index}.png" for index in range(len(found))]


@settings(max_examples=600, deadline=None)
@given(st.data(), st.sampled_from(["pax", "gnu"]))
def test_a_damaged_archive_is_a_data_error_or_an_archive(data: st.DataObject, form: str) -> None:
    name = "é" * 80
    members = [(f"{name}{index}", bytes([index]) * 300, tarfile.REGTYPE, 1 << 34) for index in range(3)]
    damaged = bytearray(archive(members, form).rstrip(b"\0") + bytes(1024))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(list(read(bytes(damaged)))) <= 8
    except DataError:
        pass


@pytest.mark.parametrize("size", [b"-0000000001\0", b"\xff" * 12, b"\x80" + b"\xff" * 11, b"zzz\0"])
def test_an_impossible_size_is_a_data_error(size: bytes) -> None:
    header = bytearray(tarfile.TarInfo("x.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(DataError, match=r"the header at byte 0 cannot be read|cut short|not a tar"):
        list(read(bytes(header) + bytes(1024)))


def test_a_long_name_longer_than_any_is_not_read_into_memory() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(DataError, match="it states 8,589,934,592 bytes"):
        list(read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
