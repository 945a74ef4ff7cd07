from __future__ import annotations

import gzip
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from onward.errors import DataError
from onward.images.idx import is_idx, iterate_idx, read_idx, read_idx_shape

UINT8 = 0x08
LAW = settings(max_examples=60, deadline=None)
ARRAYS = arrays(np.uint8, array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
WAYS = st.sampled_from(["plain", "gzip"])


def encode(array: NDArray[np.uint8], way: str = "plain", tail: bytes = b"") -> bytes:
    header = bytes((0, 0, UINT8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.tobytes() + tail
    return gzip.compress(data, mtime=0) if way == "gzip" else data


def read(data: bytes) -> NDArray[np.uint8]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images-idx3-ubyte")
        path.write_bytes(data)
        return read_idx(path)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "images-idx3-ubyte"
    path.write_bytes(data)
    return path


@LAW
@given(ARRAYS, WAYS)
def test_what_is_written_reads_back_equal(array: NDArray[np.uint8], way: str) -> None:
    found = read(encode(array, way))
    assert found.dtype == np.uint8
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@LAW
@given(ARRAYS, WAYS, st.integers(1, 7))
def test_slices_joined_are_the_whole(array: NDArray[np.uint8], way: str, batch_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), encode(array, way))
        slices = list(iterate_idx(path, batch_size))
        assert read_idx_shape(path) == array.shape
        assert is_idx(path)
    assert all(len(part) == batch_size for part in slices[:-1])
    joined = np.concatenate([np.empty((0, *array.shape[1:]), np.uint8), *slices])
    np.testing.assert_array_equal(joined, array)


@LAW
@given(ARRAYS, WAYS, st.data())
def test_a_file_cut_short_at_any_byte_is_a_data_error(array: NDArray[np.uint8], way: str, data: st.DataObject) -> None:
    whole = encode(array, way)
    with pytest.raises(DataError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@LAW
@given(ARRAYS, WAYS, st.binary(min_size=1, max_size=9))
def test_a_file_that_goes_on_is_a_data_error(array: NDArray[np.uint8], way: str, tail: bytes) -> None:
    with pytest.raises(DataError, match="goes on after"):
        read(encode(array, way, tail))


@LAW
@given(ARRAYS, st.data())
def test_a_gzip_stream_with_one_byte_changed_is_never_another_array(
    array: NDArray[np.uint8], data: st.DataObject
) -> None:
    damaged = bytearray(encode(array, "gzip"))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read(bytes(damaged))
    except DataError:
        return
    np.testing.assert_array_equal(found, array)  # the change was in a field such as the time


@LAW
@given(ARRAYS, st.data())
def test_a_header_with_one_byte_changed_is_a_data_error_or_an_array(
    array: NDArray[np.uint8], data: st.DataObject
) -> None:
    damaged = bytearray(encode(array))
    damaged[data.draw(st.integers(0, 3 + 4 * array.ndim))] ^= data.draw(st.integers(1, 255))
    try:
        assert read(bytes(damaged)).dtype == np.uint8
    except DataError:
        pass


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**32 - 1, 2**31), (1, 2**32 - 1, 2**32 - 1)])
def test_a_header_that_states_more_than_memory_holds_is_a_data_error(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path, bytes((0, 0, UINT8, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + b"few")
    with pytest.raises(DataError, match="cut short"):
        read_idx(path)


def test_the_message_counts_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, encode(np.zeros((5, 2, 2), np.uint8))[:-6])
    with pytest.raises(DataError, match="states 5 items, 3 are there"):
        read_idx(path)


def test_garbage_after_a_gzip_stream_is_a_data_error(tmp_path: Path) -> None:
    path = write(tmp_path, encode(np.zeros((5, 2), np.uint8), "gzip") + b"garbage")
    with pytest.raises(DataError, match=path.name):
        read_idx(path)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\0\0\x0d\x03" + bytes(12), b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_not_idx_of_uint8_is_refused(content: bytes, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    assert not is_idx(path)
    with pytest.raises(DataError, match="not an IDX file of uint8"):
        read_idx(path)


@pytest.mark.parametrize("function", [read_idx, read_idx_shape])
def test_a_missing_file_is_a_data_error(function: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        function(tmp_path / "missing")
    assert not is_idx(tmp_path / "missing")


@pytest.mark.parametrize("function", [read_idx, read_idx_shape])
def test_what_cannot_be_read_is_a_data_error(function: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        function(tmp_path)


def test_slices_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.uint8).reshape(6, 2)
    path = write(tmp_path, encode(array)[:-1])
    slices = iterate_idx(path, 3)
    np.testing.assert_array_equal(next(slices), array[:3])
    np.testing.assert_array_equal(next(slices), array[3:5])
    with pytest.raises(DataError, match="5 are there"):
        next(slices)
