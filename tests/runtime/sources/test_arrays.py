from __future__ import annotations

import io
import os
import struct
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from onward.errors import DataError, FeedError
from onward.signature import Signature
from onward.sources import arrays, open_sources

RGB = Signature(4, 4, 3, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
LAW = settings(max_examples=60, deadline=None)


def npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def npz(path: Path, **named: NDArray[Any]) -> Path:
    np.savez_compressed(path, **named)
    return path


def pixels_of(make: Any, path: Path) -> bytes:
    return b"".join(found for _, found, _ in make.rows_of(make.opened(path)))


def test_images_of_an_array_are_named_by_their_index(make: Any, tmp_path: Path) -> None:
    path = make.build("npy", tmp_path, 3)
    assert [name for name, *_ in make.rows_of(make.opened(path))] == [f"{path}[{index}]" for index in range(3)]
    path = make.build("npz", tmp_path, 2)
    assert make.rows_of(make.opened(path))[1][0] == f"{path}/images[1]"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 1)])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_grey_arrays_may_leave_out_the_channel_axis(
    make: Any, kind: str, shape: tuple[int, ...], order: Any, tmp_path: Path
) -> None:
    array = np.asarray(make.pixels(5).reshape(shape), order=order)
    path = npy(tmp_path / "x.npy", array) if kind == "npy" else npz(tmp_path / "x.npz", images=array)
    assert pixels_of(make, path) == make.pixels(5).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.int8, np.uint16])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_an_array_of_another_dtype_is_a_feed_error(make: Any, kind: str, dtype: type, tmp_path: Path) -> None:
    array = make.pixels(2).astype(dtype)
    path = npy(tmp_path / "x.npy", array) if kind == "npy" else npz(tmp_path / "x.npz", images=array)
    with pytest.raises(FeedError, match=f"is {np.dtype(dtype)}, expected uint8"):
        make.opened(path)


@pytest.mark.parametrize("shape", [(), (4,), (4, 4), (2, 5, 4), (2, 4, 4, 3), (2, 1, 4, 4), (2, 4, 4, 1, 1)])
def test_an_array_of_another_shape_is_a_feed_error(make: Any, shape: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"expected \(images, 4, 4, 1\) or \(images, 4, 4\)"):
        make.opened(npy(tmp_path / "array.npy", np.zeros(shape, np.uint8)))


def test_colour_arrays_need_their_channel_axis(make: Any, tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"expected \(images, 4, 4, 3\)\."):
        open_sources([npy(tmp_path / "grey.npy", make.pixels(2)[..., 0])], RGB)


@pytest.mark.parametrize("kind", ["npy", "npz", "idx", "idx.gz"])
def test_an_array_of_no_images_is_a_data_error(make: Any, kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no image"):
        make.opened(make.build(kind, tmp_path, 0))


def test_pickled_objects_are_never_loaded(make: Any, tmp_path: Path) -> None:
    objects = np.array([{}] * 2, object)
    for path in (npy(tmp_path / "x.npy", objects), npz(tmp_path / "x.npz", images=objects)):
        with pytest.raises(FeedError, match="holds Python objects, which are never loaded"):
            make.opened(path)
    path = npz(tmp_path / "y.npz", images=make.pixels(2), labels=objects)
    assert [label for *_, label in make.rows_of(make.opened(path))] == [None, None]


@LAW
@given(st.data())
def test_an_npy_file_cut_short_is_never_taken_for_fewer_images(make: Any, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = make.build("npy", Path(place), 3)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(DataError, match="damaged"):
            make.opened(path)


@LAW
@given(st.data())
def test_an_npz_file_cut_short_is_a_data_error(make: Any, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = make.build("npz", Path(place), 3)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(DataError):
            make.opened(path)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(["npz", "npy", "idx.gz"]))
def test_a_damaged_array_is_an_error_or_says_where_it_ends(make: Any, data: st.DataObject, kind: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = make.build(kind, Path(place), 9)
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(damaged)
        try:
            source = make.opened(path)
            rows = make.rows_of(source)
        except (DataError, FeedError):
            return
    assert rows
    if kind == "npz" and all(isinstance(found, bytes) for _, found, _ in rows):
        assert b"".join(found for _, found, _ in rows) == make.pixels(9).tobytes()


def test_an_npz_file_damaged_in_the_middle_gives_what_is_before_it(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PIECE_BYTES", 64)  # four images
    path = npz(tmp_path / "x.npz", images=make.pixels(4000))
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    *rows, (name, reason, _) = make.rows_of(make.opened(path))
    assert 0 < len(rows) <= 4000
    assert name == f"{path}/images[{len(rows)}:]"
    assert "is a damaged .npz file" in reason


def test_an_npz_file_with_a_wrong_checksum_is_reported(make: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=make.pixels(3000))  # not compressed
    data = (tmp_path / "x.npz").read_bytes()
    pixels = make.pixels(3000).tobytes()
    (tmp_path / "x.npz").write_bytes(data.replace(pixels, bytes([pixels[0] ^ 1]) + pixels[1:]))
    assert "CRC" in make.rows_of(make.opened(tmp_path / "x.npz"))[-1][1]


def test_the_checksum_of_a_compressed_npz_file_is_checked_at_its_end(make: Any, tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", images=make.pixels(3000))
    with zipfile.ZipFile(path) as archive:
        stated = struct.pack("<I", archive.infolist()[0].CRC)
    path.write_bytes(path.read_bytes().replace(stated, bytes(4)))
    assert "CRC" in make.rows_of(make.opened(path))[-1][1]


@pytest.mark.parametrize(("change", "reason"), [(-1, "is cut short: images states 3"), (1, "goes on after the 3")])
def test_an_array_shorter_or_longer_than_it_states_says_so(make: Any, change: int, reason: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, make.pixels(3))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("images.npy", stream.getvalue()[:change] if change < 0 else stream.getvalue() + b"x")
    assert reason in make.rows_of(make.opened(tmp_path / "x.npz"))[-1][1]


def test_which_array_of_an_npz_holds_the_images(make: Any, tmp_path: Path) -> None:
    images, others = make.pixels(2), make.pixels(3)
    for named in (
        {"anything": images},
        {"anything": images, "labels": np.arange(2)},
        {"x_test": images, "more": others},
        {"photos": images, "weights": np.ones((2, 4, 4), np.float32)},
    ):
        assert pixels_of(make, npz(tmp_path / "x.npz", **named)) == images.tobytes()
    with pytest.raises(DataError, match="contains the arrays a, b; name the one with the images 'images'"):
        make.opened(npz(tmp_path / "x.npz", a=images, b=others))


@pytest.mark.parametrize("labels", [np.array([3, 1]), np.array(["cat", "dog"]), np.array([3, 1], ">i2")])
def test_labels_lie_beside_the_images_of_an_npz(
    make: Any, labels: NDArray[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PIECE_BYTES", 1)  # one image
    for images in (make.pixels(2), np.asfortranarray(make.pixels(2))):
        path = npz(tmp_path / "x.npz", images=images, y=labels)
        assert [label for *_, label in make.rows_of(make.opened(path))] == [str(label) for label in labels]


def test_a_large_array_in_fortran_order_is_refused(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MAX_WHOLE_BYTES", 31)
    with pytest.raises(FeedError, match="ascontiguousarray"):
        make.opened(npz(tmp_path / "x.npz", images=np.asfortranarray(make.pixels(2))))
    make.opened(npz(tmp_path / "x.npz", images=make.pixels(2)))


def test_a_zip_archive_of_no_array_is_a_data_error(make: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", b"image")
    with pytest.raises(DataError, match=r"zip archive without \.npy files"):
        make.opened(tmp_path / "x.zip")


def test_an_idx_file_cut_short_gives_what_is_before_it(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PIECE_BYTES", 64)
    path = make.build("idx", tmp_path, 9)
    path.write_bytes(path.read_bytes()[:-1])
    *rows, (name, reason, _) = make.rows_of(make.opened(path))
    assert [found for _, found, _ in rows] == [image.tobytes() for image in make.pixels(8)]
    assert (name, "cut short" in reason) == (f"{path}[8:]", True)


@pytest.mark.parametrize("num_images", [1, 9, 5000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_gzipped_idx_file_cut_short_says_so(make: Any, num_images: int, share: float, tmp_path: Path) -> None:
    path = make.build("idx.gz", tmp_path, num_images)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    try:
        *_, (_, reason, _) = make.rows_of(make.opened(path))
    except DataError as error:
        reason = str(error)
    assert "cut short" in reason


def test_an_idx_file_of_labels_is_a_feed_error(make: Any, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(bytes((0, 0, 8, 1)) + struct.pack(">I", 3) + bytes(3))
    with pytest.raises(FeedError, match=r"has shape \(3,\)"):
        make.opened(tmp_path / "labels")


def test_an_array_that_was_replaced_since_it_was_opened_is_not_read_as_the_old_one(make: Any, tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", images=make.pixels(3))
    source = make.opened(path)
    npz(path, images=np.zeros((3, 5, 5), np.uint8))
    assert "has changed since" in make.rows_of(source)[0][1]


def test_an_unsuitable_array_on_standard_input_does_not_stop_the_others(make: Any, tmp_path: Path) -> None:
    names = [npy(tmp_path / "a.npy", np.zeros((2, 5, 5), np.uint8)), make.build("npy", tmp_path, 1)]
    wrong, right = make.rows_of(make.opened("-", stdin=io.BytesIO("\n".join(map(os.fspath, names)).encode())))
    assert (wrong[0], "has shape (2, 5, 5)" in wrong[1]) == (os.fspath(names[0]), True)
    assert right[1] == make.pixels(1).tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_file_that_becomes_shorter_while_it_is_read_says_so(
    make: Any, order: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "PIECE_BYTES", 64)  # four images
    monkeypatch.setattr(arrays, "FORTRAN_PIECE_BYTES", 64)
    path = npy(tmp_path / "x.npy", np.asarray(make.pixels(9), order=order))
    blocks = make.opened(path).blocks()
    rows = list(make.block_rows(next(blocks)))
    os.truncate(path, path.stat().st_size - 60)  # what was mapped would end the process by SIGBUS
    rows += [row for block in blocks for row in make.block_rows(block)]
    assert [found for _, found, _ in rows[:-1]] == [image.tobytes() for image in make.pixels(4)]
    assert rows[-1][0] == f"{path}[4:]"
    assert "it was cut short while it was read" in rows[-1][1]
