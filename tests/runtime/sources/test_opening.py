from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import DataError
from onward.sources.files import MAX_PATH_BYTES, read_paths

#: Paths without a line ending.
LINES = st.binary(min_size=1, max_size=30).filter(lambda line: not set(line) & set(b"\0\n\r"))


def listed(make: Any, data: bytes) -> list[tuple[str, Any, Any]]:
    source = make.opened("-", stdin=io.BytesIO(data))
    assert source.count() is None
    rows: list[tuple[str, Any, Any]] = make.rows_of(source)
    return rows


def names_of(make: Any, *paths: Any) -> list[str]:
    return [name for name, *_ in make.rows_of(make.opened(*paths))]


@pytest.mark.parametrize("missing", ["missing", "missing.png"])
def test_a_missing_path_is_a_data_error(make: Any, missing: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{missing} does not exist"):
        make.opened(tmp_path / missing)


def test_one_image_is_a_source_of_one(make: Any, tmp_path: Path) -> None:
    (tmp_path / "no suffix").write_bytes(make.png(make.pixels(1)[0]))
    source = make.opened(tmp_path / "no suffix")
    assert source.count() == 1
    assert make.rows_of(source) == [(f"{tmp_path}/no suffix", make.pixels(1)[0].tobytes(), None)]


def test_images_that_are_named_one_by_one_come_in_blocks(make: Any, tmp_path: Path) -> None:
    folder = make.build("folder", tmp_path, 70)
    images = sorted(folder.iterdir())
    source = make.opened(*images, make.build("npy", tmp_path, 2), images[0])
    assert [len(block) for block in source.blocks()] == [64, 6, 2, 1]
    assert source.count() == 73


@pytest.mark.parametrize("kind", ["npy", "npz", "idx", "idx.gz", "parquet"])
def test_arrays_and_tables_are_told_by_content_not_by_name(make: Any, kind: str, tmp_path: Path) -> None:
    path = make.build(kind, tmp_path, 2).rename(tmp_path / "x.png")
    assert [found for _, found, _ in make.rows_of(make.opened(path))] == [i.tobytes() for i in make.pixels(2)]


def test_a_pattern_gives_what_fits_it_in_the_order_of_names(make: Any, tmp_path: Path) -> None:
    for kind in ("tar", "npy"):
        for name in ("b", "a", "c[1]"):
            path = make.build(kind, tmp_path, 1)
            path.rename(tmp_path / f"{name}.{kind}")
    found = [f"{tmp_path}/{name}.npy[0]" for name in ("a", "b", "c[1]")]
    assert names_of(make, tmp_path / "*.npy") == found
    assert names_of(make, tmp_path / "c[1].npy") == found[2:]  # an existing path is not a pattern
    assert names_of(make, tmp_path / "?.tar") == [f"{tmp_path}/{name}.tar/000.png" for name in ("a", "b")]
    with pytest.raises(DataError, match="no path matches the pattern"):
        make.opened(tmp_path / "*.csv")


def test_a_pattern_keeps_the_order_of_names_whatever_order_the_disk_has(make: Any, tmp_path: Path) -> None:
    for letter in "qazwsxedcrfvtgbyhnujm":
        (tmp_path / f"{letter}.png").touch()
    assert names_of(make, tmp_path / "*.png") == [
        f"{tmp_path}/{letter}.png" for letter in sorted("qazwsxedcrfvtgbyhnujm")
    ]


def test_a_pattern_of_images_does_not_open_them(make: Any, tmp_path: Path) -> None:
    folder = make.build("folder", tmp_path, 3)
    (folder / "001.png").unlink()
    (folder / "001.png").symlink_to("nothing")
    source = make.opened(folder / "*.png")
    assert source.count() == 3
    assert [isinstance(found, bytes) for _, found, _ in make.rows_of(source)] == [True, False, True]


def test_a_pattern_through_all_folders_gives_each_image_once(make: Any, tmp_path: Path) -> None:
    make.build("folder", tmp_path / "a", 2)
    assert names_of(make, f"{tmp_path}/**") == [f"{tmp_path}/a/images.folder/00{index}.png" for index in (0, 1)]


@given(st.lists(LINES), st.sampled_from([b"\n", b"\r\n", b"\0"]), st.booleans(), st.integers(1, 40))
def test_listed_paths_are_read_for_any_line_ending_and_any_pieces(
    lines: list[bytes], end: bytes, has_last: bool, piece: int
) -> None:
    class Pipe(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(piece if self.tell() else 60)

    data = end.join(lines) + (end if has_last and lines else b"")
    if end == b"\0" and b"\0" not in data[:60]:
        return  # a single path needs no ending
    assert list(map(os.fsencode, read_paths(Pipe(data)))) == lines


@pytest.mark.parametrize("end", ["\n", "\0"])
@pytest.mark.parametrize("has_last", [True, False])
def test_a_list_names_images_and_anything_else(make: Any, end: str, has_last: bool, tmp_path: Path) -> None:
    folder = make.build("folder", tmp_path, 2)
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "extensionless").write_bytes(make.png(make.pixels(1)[0]))
    os.mkfifo(tmp_path / "pipe.jpg")
    paths = [folder / "001.png", tmp_path / "x.jpg", folder, tmp_path / "gone.png", tmp_path / "gone.tar"]
    paths += [tmp_path / "pipe.jpg", make.build("npy", tmp_path, 1), tmp_path / "extensionless"]
    rows = listed(make, (end.join(map(str, paths)) + (end if has_last else "")).encode())
    first, second = (image.tobytes() for image in make.pixels(2))
    assert [row[:2] for row in rows[:4]] == [
        (f"{folder}/001.png", second),
        (f"{tmp_path}/x.jpg", "is a folder"),
        (f"{folder}/000.png", first),
        (f"{folder}/001.png", second),
    ]
    assert "No such file" in rows[4][1]
    assert "does not exist" in rows[5][1]
    assert rows[6][1] == "is not a regular file"
    assert [found for _, found, _ in rows[7:]] == [first, first]


def test_a_list_with_newlines_in_names_is_separated_by_null_characters(make: Any, tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").write_bytes(make.png(make.pixels(1)[0]))
    assert listed(make, f"{tmp_path}/a\nb.png\0".encode())[0][1] == make.pixels(1)[0].tobytes()


def test_an_empty_list_is_no_input(make: Any) -> None:
    assert listed(make, b"") == listed(make, b"\n\n") == []


def test_a_list_is_read_only_as_far_as_blocks_are_taken(make: Any) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1) -> bytes:
            self.taken += 1
            return b"a.png\n" * 100

    stream = Endless()
    blocks: Iterator[Any] = make.opened("-", stdin=stream).blocks()
    assert [len(next(blocks)) for _ in range(3)] == [64, 64, 64]
    assert stream.taken < 5


def test_a_list_can_be_read_only_once_and_says_so(make: Any) -> None:
    source = make.opened("-", stdin=io.BytesIO(b"a.png"))
    assert len(list(source.blocks())) == 1
    with pytest.raises(DataError, match="only once"):
        list(source.blocks())
    with pytest.raises(DataError, match="'-' is given 2 times"):
        make.opened("-", "-", stdin=io.BytesIO())


def test_a_list_that_is_no_text_is_a_path_that_is_not_there(make: Any) -> None:
    data = b"x" * (5 * MAX_PATH_BYTES) + b"\n/gone.png"
    long, gone = listed(make, data)
    assert len(long[0]) <= 2 * MAX_PATH_BYTES
    assert isinstance(long[1], str)
    assert gone[0] == "/gone.png"
