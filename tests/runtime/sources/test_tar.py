from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import DataError
from runtime.sources.tar import read_members

LAW = settings(max_examples=150, deadline=None)
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
#: tarfile takes the slashes at a name's end away; neither has it names that begin with none.
NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=90)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "link",
    tarfile.DIRTYPE: "folder",
    tarfile.FIFOTYPE: "other",
    tarfile.CHRTYPE: "other",
}
MEMBERS = st.lists(st.tuples(PATHS, st.binary(max_size=1500), st.sampled_from(list(TYPES)), st.integers(0, 1 << 34)))


def archive(members: list[tuple[str, bytes, bytes, int]], form: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=FORMATS[form]) as writer:
        for name, data, kind, mtime in members:
            info = tarfile.TarInfo(name)
            info.type, info.mtime, info.linkname = kind, mtime, f"to/{name[:50]}"
            info.size = len(data) if info.isreg() else 0
            writer.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def read(data: bytes) -> Iterator[tuple[str, str, bytes, str]]:
    stream = io.BytesIO(data)
    for member in read_members(stream, "x.tar"):
        stored = stream.read(member.size_bytes) if member.kind == "file" else b""
        yield member.name.removesuffix("/"), member.kind, stored, member.target


@LAW
@given(MEMBERS, st.sampled_from(list(FORMATS)))
def test_what_tarfile_writes_is_read_as_tarfile_reads_it(members: Any, form: str) -> None:
    try:
        data = archive(members, form)
    except ValueError:
        return  # a name too long for the old format
    expected = []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as reader:
        for info in reader:
            stored = reader.extractfile(info) if info.isreg() else None
            target = info.linkname if TYPES[info.type] == "link" else ""
            expected.append((info.name, TYPES[info.type], stored.read() if stored else b"", target))
    assert list(read(data)) == expected


@pytest.mark.parametrize("form", FORMATS)
def test_long_names_large_sizes_and_times_are_read(form: str) -> None:
    name = "/".join(["folder" * 10] * (3 if form == "ustar" else 30)) + "/x.png"
    ((found, kind, data, _),) = read(archive([(name, b"abc", tarfile.REGTYPE, 1 << 32)], form))
    assert (found, kind, data) == (name, "file", b"abc")


def test_a_size_in_base_256_is_read() -> None:
    info = tarfile.TarInfo("x.png")
    info.size = 1 << 34  # 16 GiB: more than eleven octal digits hold
    (member,) = read_until_cut(info.tobuf(tarfile.GNU_FORMAT))
    assert member.size_bytes == 1 << 34


def read_until_cut(data: bytes) -> list[Any]:
    found = []
    try:
        for member in read_members(io.BytesIO(data), "x.tar"):
            found.append(member)
    except DataError:
        pass
    return found


def test_archives_one_after_the_other_are_read_as_one() -> None:
    first = archive([("a", b"1", tarfile.REGTYPE, 0)], "pax")
    second = archive([("b", b"2", tarfile.REGTYPE, 0)], "gnu")
    assert [name for name, *_ in read(first + second)] == ["a", "b"]


def test_a_folder_as_it_was_written_before_1988_is_one() -> None:
    data = archive([("folder/", b"", tarfile.AREGTYPE, 0), ("folder/x.png", b"1", tarfile.REGTYPE, 0)], "ustar")
    assert [row[:2] for row in read(data)] == [("folder", "folder"), ("folder/x.png", "file")]


def test_a_name_that_is_not_utf8_is_kept_byte_by_byte() -> None:
    data = archive([("\udcff\udcfe.png", b"", tarfile.REGTYPE, 0)], "gnu")
    assert next(read(data))[0] == "\udcff\udcfe.png"


def test_a_file_with_holes_is_no_file_and_what_follows_is_read(tmp_path: Path) -> None:
    """As GNU tar 1.35 writes them: `tar --sparse --format=gnu` and, with the map in attributes, `--format=pax`."""
    info = tarfile.TarInfo("holes.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # one more header follows
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    old = bytes(header) + bytes(512) + b"x" * 512
    info = tarfile.TarInfo("GNUSparseFile.0/holes.png")
    info.size, info.pax_headers = 512, {"GNU.sparse.major": "1", "GNU.sparse.name": "holes.png"}
    new = info.tobuf(tarfile.PAX_FORMAT) + b"x" * 512
    for sparse in (old, new):
        data = sparse + archive([("next", b"1", tarfile.REGTYPE, 0)], "gnu")
        assert list(read(data)) == [("holes.png", "other", b"", ""), ("next", "file", b"1", "")]


@LAW
@given(st.data())
def test_an_archive_cut_anywhere_gives_what_is_before_the_cut_and_says_so(data: st.DataObject) -> None:
    members = [(f"{index}.png", bytes([index]) * 700, tarfile.REGTYPE, 0) for index in range(4)]
    whole = archive(members, "pax").rstrip(b"\0") + bytes(1024)
    where = data.draw(st.integers(0, len(whole) - 1024))
    found = []
    with pytest.raises(DataError, match=r"x\.tar is (cut short|no tar file)"):
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
def test_a_size_that_leads_nowhere_is_a_data_error(size: bytes) -> None:
    header = bytearray(tarfile.TarInfo("x.png").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = size.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(DataError, match=r"the header at byte 0 cannot be read|cut short"):
        list(read(bytes(header) + bytes(1024)))


@pytest.mark.parametrize("stated", ["-512", "1e3", "9" * 30, ""])
def test_a_size_in_attributes_that_leads_nowhere_is_a_data_error(stated: str) -> None:
    info = tarfile.TarInfo("x.png")
    info.pax_headers = {"size": stated}
    with pytest.raises(DataError, match="a member's size is"):
        list(read(info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)))


def test_a_long_name_longer_than_any_is_not_read_into_memory() -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 33
    with pytest.raises(DataError, match="it states 8,589,934,592 bytes"):
        list(read(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
