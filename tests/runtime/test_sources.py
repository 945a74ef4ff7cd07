from __future__ import annotations

import gzip
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from runtime.errors import DataError, FeedError
from runtime.signature import Signature
from runtime.sources import Batch, Source, open_sources, prefetch

GREY = Signature(4, 4, 1, (0.5,), (0.5,), ("a", "b"))
RGB = Signature(4, 4, 3, (0.5,) * 3, (0.5,) * 3, ("a", "b"))
LAW = settings(max_examples=25, deadline=None)


def pixels(count: int, channels: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4, channels), np.uint8)


def save_images(folder: Path, names: list[str]) -> None:
    for name, image in zip(names, pixels(len(names)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / name, "PNG")


def save_idx(path: Path, array: NDArray[np.uint8]) -> Path:
    data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def save_npy(path: Path, array: NDArray[Any]) -> Path:
    np.save(path, array)
    return path


def read_all(source: Source, batch_size: int = 3) -> Batch:
    batches = list(source.batches(batch_size))
    assert all(len(batch.names) == len(batch.images) for batch in batches)
    assert all(len(batch.names) + len(batch.failures) <= batch_size for batch in batches)
    return Batch(
        [name for batch in batches for name in batch.names],
        np.concatenate([batch.images for batch in batches]),
        tuple(failure for batch in batches for failure in batch.failures),
    )


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "onward-source"]


@LAW
@given(st.lists(st.integers() | st.none() | st.text()), st.integers(1, 4))
def test_prefetch_gives_the_same_items_in_order(items: list[object], ahead: int) -> None:
    assert list(prefetch(items, ahead)) == items
    assert not workers()


@LAW
@given(st.integers(0, 20), st.integers(1, 4))
def test_prefetch_ends_its_thread_when_the_consumer_stops_early(num_taken: int, ahead: int) -> None:
    taken: list[int] = []

    def counting() -> Iterator[int]:
        for item in range(1000):
            taken.append(item)
            yield item

    items = prefetch(counting(), ahead)
    assert [next(items) for _ in range(num_taken)] == list(range(num_taken))
    items.close()  # type: ignore[attr-defined]
    assert not workers()
    assert len(taken) <= num_taken + ahead + 1  # what was on the shelf, and the one in hand


@LAW
@given(st.integers(0, 10), st.sampled_from([ValueError, DataError, OSError, KeyboardInterrupt]))
def test_prefetch_raises_the_error_of_its_source_after_the_items_before_it(
    count: int, kind: type[BaseException]
) -> None:
    def failing() -> Iterator[int]:
        yield from range(count)
        raise kind("the disk was pulled out")

    seen = []
    with pytest.raises(kind, match="pulled out"):
        for item in prefetch(failing()):
            seen.append(item)
    assert seen == list(range(count))
    assert not workers()


def test_prefetch_runs_at_most_that_many_items_ahead() -> None:
    taken: list[int] = []

    def counting() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    items = prefetch(counting(), ahead=2)
    next(items)
    deadline = time.monotonic() + 5
    while len(taken) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(taken) == 4  # one consumed, two on the shelf, one in hand
    items.close()  # type: ignore[attr-defined]


def test_prefetch_starts_nothing_until_it_is_consumed() -> None:
    prefetch(iter(range(3)))
    assert not workers()


def test_a_folder_is_read_recursively_in_the_order_of_names(tmp_path: Path) -> None:
    save_images(tmp_path, ["b.png", "a.PNG", "z/2.png", "z/10.png", "c/x.png"])
    (tmp_path / "notes.txt").write_text("left alone")
    source = open_sources([tmp_path], GREY)
    assert source.num_inputs == 5
    assert list(read_all(source).names) == ["a.PNG", "b.png", "c/x.png", "z/10.png", "z/2.png"]


def test_folders_come_in_the_order_of_names_whatever_order_the_disk_has(tmp_path: Path) -> None:
    names = [f"{letter}/image.png" for letter in "qazwsxedcrfvtgbyhnujm"]
    save_images(tmp_path, names)
    assert list(read_all(open_sources([tmp_path], GREY)).names) == sorted(names)


def test_images_arrive_beside_their_names(tmp_path: Path) -> None:
    names = [f"{index}.png" for index in range(7)]
    save_images(tmp_path, names)
    batch = read_all(open_sources([tmp_path], GREY))
    assert list(batch.names) == names
    np.testing.assert_array_equal(batch.images, pixels(7))


@LAW
@given(st.integers(1, 9), st.sampled_from(["folder", "npy", "idx", "idx.gz"]))
def test_the_batch_size_changes_nothing(batch_size: int, kind: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"images.{kind}"
        match kind:
            case "folder":
                save_images(path, [f"{index}.png" for index in range(7)])
            case "npy":
                save_npy(path, pixels(7))
            case _:
                save_idx(path, pixels(7)[..., 0])
        source = open_sources([path], GREY)
        found, whole = read_all(source, batch_size), read_all(source, 100)
    assert source.num_inputs == len(whole.names) == 7
    assert list(found.names) == list(whole.names)
    np.testing.assert_array_equal(found.images, whole.images)
    np.testing.assert_array_equal(found.images, pixels(7))


def test_an_unreadable_image_is_a_failure_and_the_others_are_read(tmp_path: Path) -> None:
    save_images(tmp_path, ["a.png", "c.png"])
    (tmp_path / "b.png").write_text("this is text")
    (tmp_path / "d.png").symlink_to(tmp_path / "gone.png")
    batch = read_all(open_sources([tmp_path], GREY))
    assert list(batch.names) == ["a.png", "c.png"]
    assert [failure.input for failure in batch.failures] == ["b.png", "d.png"]
    assert "no image" in batch.failures[0].reason


def test_a_batch_of_failures_only_is_empty(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("this is text")
    batch = next(open_sources([tmp_path / "text.png"], RGB).batches(4))
    assert batch.images.shape == (0, 4, 4, 3)
    assert [failure.input for failure in batch.failures] == ["text.png"]


def test_one_image_is_a_source_of_one(tmp_path: Path) -> None:
    save_images(tmp_path, ["only.png"])
    source = open_sources([tmp_path / "only.png"], GREY)
    assert (source.num_inputs, list(read_all(source).names)) == (1, ["only.png"])


@pytest.mark.parametrize("content", [[], ["notes.txt"]])
def test_a_folder_without_images_is_a_data_error(content: list[str], tmp_path: Path) -> None:
    for name in content:
        (tmp_path / name).write_text("text")
    with pytest.raises(DataError, match="holds no image"):
        open_sources([tmp_path], GREY)


def test_a_missing_path_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing does not exist"):
        open_sources([tmp_path / "missing"], GREY)


def test_several_paths_follow_one_another(tmp_path: Path) -> None:
    save_images(tmp_path / "folder", ["1.png", "2.png"])
    paths = [tmp_path / "folder", save_npy(tmp_path / "three.npy", pixels(3)), tmp_path / "folder" / "2.png"]
    source = open_sources(paths, GREY)
    batch = read_all(source)
    assert source.num_inputs == 6
    assert list(batch.names) == ["1.png", "2.png", "three.npy[0]", "three.npy[1]", "three.npy[2]", "2.png"]


def test_arrays_are_told_by_content_not_by_name(tmp_path: Path) -> None:
    array = save_npy(tmp_path / "array.npy", pixels(2)).rename(tmp_path / "array.png")
    idx = save_idx(tmp_path / "idx.png", pixels(2))
    for path in (array, idx):
        np.testing.assert_array_equal(read_all(open_sources([path], GREY)).images, pixels(2))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 1)])
def test_grey_arrays_may_leave_out_the_channel_axis(shape: tuple[int, ...], order: Any, tmp_path: Path) -> None:
    path = save_npy(tmp_path / "grey.npy", np.asarray(pixels(5).reshape(shape), order=order))
    np.testing.assert_array_equal(read_all(open_sources([path], GREY)).images, pixels(5))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.int8, np.uint16])
def test_an_array_of_another_dtype_is_a_feed_error(dtype: type, tmp_path: Path) -> None:
    path = save_npy(tmp_path / "array.npy", pixels(2).astype(dtype))
    with pytest.raises(FeedError, match=f"holds {np.dtype(dtype)}, expected uint8"):
        open_sources([path], GREY)


@pytest.mark.parametrize("shape", [(), (4,), (4, 4), (2, 5, 4), (2, 4, 4, 3), (2, 1, 4, 4), (2, 4, 4, 1, 1)])
def test_an_array_of_another_shape_is_a_feed_error(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = save_npy(tmp_path / "array.npy", np.zeros(shape, np.uint8))
    with pytest.raises(FeedError, match=r"expected \(images, 4, 4, 1\) or \(images, 4, 4\)"):
        open_sources([path], GREY)


def test_colour_arrays_need_their_channel_axis(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"expected \(images, 4, 4, 3\)\."):
        open_sources([save_npy(tmp_path / "grey.npy", pixels(2)[..., 0])], RGB)


@pytest.mark.parametrize("kind", ["npy", "idx", "idx.gz"])
def test_an_array_of_no_images_is_a_data_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"empty.{kind}"
    save_npy(path, pixels(0)) if kind == "npy" else save_idx(path, pixels(0))
    with pytest.raises(DataError, match="empty"):
        open_sources([path], GREY)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "objects.npy", np.array([{}], object))
    with pytest.raises((DataError, FeedError)):
        open_sources([path], GREY)


@LAW
@given(st.data())
def test_an_npy_file_cut_short_is_never_taken_for_fewer_images(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = save_npy(Path(place, "array.npy"), pixels(3))
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        try:
            batch = read_all(open_sources([path], GREY))
        except DataError:
            return
    assert not len(batch.names)  # cut inside its magic bytes: then it is no array, but an image that does not read
    assert len(batch.failures) == 1


def test_an_idx_file_cut_short_raises_where_it_ends(tmp_path: Path) -> None:
    path = save_idx(tmp_path / "cut.idx", pixels(9))
    path.write_bytes(path.read_bytes()[:-1])
    batches = prefetch(open_sources([path], GREY).batches(4))
    assert len(next(batches).names) == 4
    with pytest.raises(DataError, match="cut short"):
        list(batches)


@pytest.mark.parametrize("num_images", [1, 9, 5000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_gzipped_idx_file_cut_short_is_never_taken_for_an_image(
    num_images: int, share: float, tmp_path: Path
) -> None:
    path = save_idx(tmp_path / "cut.idx.gz", pixels(num_images))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match="cut short"):
        list(open_sources([path], GREY).batches(4))
