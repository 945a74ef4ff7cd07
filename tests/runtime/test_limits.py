"""Small files that state gigabytes: each is refused by a sentence, and takes less than 300 MiB of memory."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onward.bundle import MANIFEST, digest_file, manifest_digest
from onward.limits import FREE_BYTES, allowed_bytes
from tests.peak import MAX_PEAK_MIB, Bomb, Reading, read_bombs

GIB = 1 << 30
KEPT_BUNDLE = Path(__file__).parent / "bundle" / "bundles" / "format-1"
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


def parquet(path: Path, cells: Any, **how: Any) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'onward[parquet]'")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": cells}), path, compression="zstd", store_schema=False, **how)


def one_cell(path: Path) -> None:
    """One image of 8 MB in 500 rows: 519 bytes, and 4 GB."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'onward[parquet]'")
    parquet(path, pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([bytes(8 << 20)])))


def one_struct(path: Path) -> None:
    """The same as Hugging Face has it."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'onward[parquet]'")
    cells = pa.DictionaryArray.from_arrays(pa.array([0] * 500, pa.int32()), pa.array([bytes(8 << 20)]))
    parquet(path, pa.StructArray.from_arrays([cells, pa.array(["a.png"] * 500)], ["bytes", "path"]))


def large_page(path: Path) -> None:
    """A page of 128 MiB, compressed to 6 kB. pyarrow ends a page after 1,024 rows, however large."""
    parquet(path, [bytes(1 << 20)] * 128, use_dictionary=False, data_page_size=1 << 30)


def prefixes(path: Path) -> None:
    """Each image repeats the one before it: 300 images of 1 MB in 500 bytes."""
    encoding = {"image": "DELTA_BYTE_ARRAY"}
    parquet(path, [bytes(1 << 20)] * 300, use_dictionary=False, column_encoding=encoding)


def many_images(path: Path) -> None:
    """20 members of 46 MiB each, in 4 MB of gzip."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(20):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = 46 << 20
            archive.addfile(member, _Zeros())


class _Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def manifest(path: Path) -> None:
    """Lists of three bytes in the file, and 64 in memory."""
    path.mkdir()
    (path / "manifest.json").write_bytes(b'{"format": [' + b"[]," * 6_000_000 + b"1]}")


def large_images(path: Path) -> None:
    """Grey images of 85 million pixels each, of 80 kB: decoded and converted, one takes 170 MB."""
    path.mkdir()
    stream = io.BytesIO()
    Image.new("L", (9200, 9200)).save(stream, "PNG", compress_level=1)
    for number in range(4):
        (path / f"{number}.png").write_bytes(stream.getvalue())


def report(path: Path) -> None:
    path.write_bytes(b'{"format": [' + b"[]," * 6_000_000 + b"1]}")


def parity(path: Path) -> None:
    """In a bundle whose manifest agrees with it."""
    shutil.copytree(KEPT_BUNDLE, path)
    report(path / "parity.json")
    document = json.loads((path / MANIFEST).read_text())
    for entry in document["files"]:
        if entry["path"] == "parity.json":
            entry |= vars(digest_file(path, path / "parity.json"))
    document["manifest_sha256"] = manifest_digest(document)
    (path / MANIFEST).write_text(json.dumps(document))


BOMBS: dict[str, Bomb] = {
    "labels.npz": Bomb(
        "predict",
        wide_labels,
        "reserves 10,000,000 characters for each label, at most 4,096",
    ),
    "header.npz": Bomb("predict", long_header, "its header has 1,073,741,808 bytes, at most 10,000"),
    "bzip2.npz": Bomb("predict", bzip2, "images.npy is compressed by bzip2, expected deflate"),
    "members.npz": Bomb("predict", many_members, "the list of its members has 6.7 MiB, at most 4.0 MiB"),
    "cell.parquet": Bomb("predict", one_cell, "not an image: Pillow recognises no format in its content"),
    "struct.parquet": Bomb("predict", one_struct, "not an image: Pillow recognises no format in its content"),
    "page.parquet": Bomb("predict", large_page, "that would unpack to 128 MiB, at most 64 MiB: write smaller pages"),
    "prefixes.parquet": Bomb("predict", prefixes, "not an image: Pillow recognises no format in its content"),
    "images.tar.gz": Bomb("predict", many_images, "not an image: Pillow recognises no format in its content"),
    "images": Bomb("images", large_images, "read"),
    "bundle": Bomb("bundle", manifest, "manifest.json has 17 MiB, at most 8.0 MiB: it is no document"),
    "parity": Bomb("parity", parity, "parity.json has 17 MiB, at most 8.0 MiB: it is no document"),
    "report.json": Bomb("report", report, "as a report of `onward bench --json` has 17 MiB, at most 8.0 MiB"),
    "golden.npz": Bomb(
        "golden",
        golden_record,
        "more than 65 MiB of memory, the limit for a file of 0.1 MiB: input/random.npy alone has shape (1073741",
    ),
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    return read_bombs(BOMBS, tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_states_gigabytes_is_a_sentence(readings: dict[str, Reading], name: str) -> None:
    reading = readings[name]
    assert BOMBS[name].sentence in reading.said
    assert reading.peak_mib < MAX_PEAK_MIB


def test_what_a_file_may_take_grows_with_its_size() -> None:
    assert allowed_bytes(0) == FREE_BYTES
    assert allowed_bytes(GIB) > 8 * GIB
