"""Small files that state gigabytes: each is refused by a sentence, and takes less than 300 MiB of memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onward.limits import FREE_BYTES, allowed_bytes
from tests.peak import MAX_PEAK_MIB, Reading, peaks_of

GIB = 1 << 30
#: What a planted file holds of what it states: compressing gigabytes takes long, and nobody may read so far.
CUT = 16 << 20


def header(shape: tuple[int, ...], dtype: str) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_2_0(stream, {"shape": shape, "fortran_order": False, "descr": dtype})
    return stream.getvalue()


def write_member(archive: zipfile.ZipFile, name: str, head: bytes, zeros: int) -> None:
    """A member that begins with `head`, and then holds so many zeros."""
    with archive.open(name, "w", force_zip64=True) as stream:
        stream.write(head)
        for _ in range(zeros >> 24):
            stream.write(bytes(1 << 24))


def wide_labels(path: Path) -> None:
    """Texts of 10 million characters as labels of 32 images: 1.2 GiB."""
    images = io.BytesIO()
    np.save(images, np.zeros((32, 4, 4), np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("images.npy", images.getvalue())
        write_member(archive, "labels.npy", header((32,), "<U10000000"), CUT)


def long_header(path: Path) -> None:
    """A header of 1 GiB of spaces."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_member(archive, "images.npy", b"\x93NUMPY\x02\x00" + (GIB - 16).to_bytes(4, "little"), CUT)


def bzip2(path: Path) -> None:
    """zipfile decompresses a member by bzip2 in one step."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        write_member(archive, "images.npy", header((GIB // 32, 4, 4), "|u1"), CUT)


def many_members(path: Path) -> None:
    """A directory of 100,000 names: 7 MB, as large as the file."""
    entry = b"PK\x01\x02" + bytes(24) + (24).to_bytes(2, "little") + bytes(16)
    names = b"".join(entry + b"%020d.npy" % number for number in range(100_000))
    end = b"PK\x05\x06" + bytes(8) + len(names).to_bytes(4, "little") + bytes(6)
    path.write_bytes(b"PK\x03\x04" + names + end)


def golden_record(path: Path) -> None:
    """Constant inputs of 1 GiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        write_member(archive, "input/random.npy", header((GIB,), "|u1"), CUT)


BOMBS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "labels.npz": (
        "predict",
        wide_labels,
        "reserves 10,000,000 characters for each label, at most 4,096",
    ),
    "header.npz": ("predict", long_header, "its header has 1,073,741,808 bytes, at most 10,000"),
    "bzip2.npz": ("predict", bzip2, "images.npy is compressed by bzip2, expected deflate"),
    "members.npz": ("predict", many_members, "the list of its members has 6.7 MiB, at most 4.0 MiB"),
    "golden.npz": (
        "golden",
        golden_record,
        "more than 65 MiB of memory, the limit for a file of 0.1 MiB: input/random.npy alone has shape (1073741",
    ),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    folder = tmp_path_factory.mktemp("bombs")
    for name, (_, plant, _) in BOMBS.items():
        plant(folder / name)
    found = peaks_of([(reader, folder / name) for name, (reader, *_) in BOMBS.items()])
    return dict(zip(BOMBS, found, strict=True))


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_states_gigabytes_is_a_sentence(readings: dict[str, Reading], name: str) -> None:
    reading = readings[name]
    assert BOMBS[name][2] in reading.said
    assert reading.peak_mib < MAX_PEAK_MIB


def test_what_a_file_may_take_grows_with_its_size() -> None:
    assert allowed_bytes(0) == FREE_BYTES
    assert allowed_bytes(GIB) > 8 * GIB
