"""Laws of sources of every kind."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.sources import Images

LAW = settings(max_examples=25, deadline=None)
KINDS = ["folder", "npy", "npz", "idx", "idx.gz", "tar", "tar.gz", "tar.bz2", "tar.xz", "csv", "tsv", "parquet"]
KINDS += ["paths.parquet"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 7, 150])
def test_a_source_gives_all_images_in_order_and_as_often_as_one_likes(
    make: Any, kind: str, count: int, tmp_path: Path
) -> None:
    source = make.opened(make.build(kind, tmp_path, count))
    rows = make.rows_of(source)
    assert [found for _, found, _ in rows] == [image.tobytes() for image in make.pixels(count)]
    assert len({name for name, _, _ in rows}) == count
    assert source.count() in (None, count)
    assert make.rows_of(source) == rows
    assert make.stamps_of(source) == make.stamps_of(source)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("tar")])
def test_all_but_archives_can_be_counted(make: Any, kind: str, tmp_path: Path) -> None:
    assert make.opened(make.build(kind, tmp_path, 70)).count() == 70


@LAW
@given(st.data())
def test_cutting_blocks_anywhere_changes_no_name_no_pixel_no_label_and_no_stamp(make: Any, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(KINDS))
    with tempfile.TemporaryDirectory() as place:
        source = make.opened(make.build(kind, Path(place), data.draw(st.integers(1, 80))))
        pieces = []
        for block in source.blocks():
            cuts = sorted(data.draw(st.lists(st.integers(0, len(block)), max_size=4)))
            pieces += [block[start:end] for start, end in zip([0, *cuts], [*cuts, len(block)], strict=True)]
        assert [row for piece in pieces for row in make.block_rows(piece)] == make.rows_of(source)
        assert b"".join(piece.stamps for piece in pieces) == make.stamps_of(source)


@pytest.mark.parametrize("kind", KINDS)
def test_other_images_of_the_same_names_have_other_stamps(make: Any, kind: str, tmp_path: Path) -> None:
    path = make.build(kind, tmp_path, 5)
    before = make.stamps_of(make.opened(path))
    make.build(kind, tmp_path, 5, seed=1)
    for file in tmp_path.rglob("*"):
        os.utime(file, ns=(1, 1))
    assert make.stamps_of(make.opened(path)) != before


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_can_be_sent_to_another_process(make: Any, kind: str, tmp_path: Path) -> None:
    for block in make.opened(make.build(kind, tmp_path, 3)).blocks():
        assert list(make.block_rows(pickle.loads(pickle.dumps(block)))) == list(make.block_rows(block))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_deleted_before_it_is_read_does_not_stop_the_others(
    make: Any, kind: str, tmp_path: Path
) -> None:
    path = make.build(kind, tmp_path, 3)
    source = make.opened(path)
    for file in sorted(tmp_path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    reason = str(make.rows_of(source)[0][1])
    assert "No such file" in reason or "does not exist" in reason


def test_several_sources_follow_one_another(make: Any, tmp_path: Path) -> None:
    paths = [make.build(kind, tmp_path / kind, 2) for kind in KINDS]
    source = make.opened(*paths)
    rows = make.rows_of(source)
    assert rows == [row for path in paths for row in make.rows_of(make.opened(path))]
    assert source.count() is None  # archives are among them
    assert make.opened(*(path for path in paths if ".tar" not in path.name)).count() == 2 * (len(KINDS) - 4)


def test_blocks_hold_at_most_64_images_and_16_mib(make: Any, tmp_path: Path) -> None:
    many = make.build("tar", tmp_path / "many", 150)
    (tmp_path / "large.tar").write_bytes(make.tar({f"{index}.png": bytes(5 << 20) for index in range(8)}))
    assert [len(block) for block in make.opened(many).blocks()] == [64, 64, 22]
    assert [len(block) for block in make.opened(tmp_path / "large.tar").blocks()] == [3, 3, 2]


def test_no_block_is_empty(make: Any, tmp_path: Path) -> None:
    array, image = make.build("npy", tmp_path, 2), make.build("folder", tmp_path, 1) / "000.png"
    names = "\n".join(map(str, [array, array, image, tmp_path / "gone", array]))
    source = make.opened("-", stdin=io.BytesIO(names.encode()))
    blocks = list(source.blocks())
    assert [len(block) for block in blocks] == [2, 2, 2, 2]
    assert [isinstance(block, Images) for block in blocks] == [False, False, True, False]
