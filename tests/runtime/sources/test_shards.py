from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.errors import DataError
from onward.sources import shards

LAW = settings(max_examples=60, deadline=None)


def save(make: Any, path: Path, members: Any, **how: Any) -> Path:
    path.write_bytes(make.tar(members, **how))
    return path


def names_and_labels(make: Any, path: Path) -> list[tuple[str, str | None]]:
    return [(name.removeprefix(f"{path}/"), label) for name, _, label in make.rows_of(make.opened(path))]


def special(kind: bytes, name: str, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_shard_is_told_by_content_whatever_its_name(make: Any, kind: str, tmp_path: Path) -> None:
    path = make.build(kind, tmp_path, 3)
    other = path.rename(tmp_path / "shard.png")
    rows = make.rows_of(make.opened(other))
    assert [name for name, *_ in rows] == [f"{other}/{index:03}.png" for index in range(3)]
    assert [found for _, found, _ in rows] == [image.tobytes() for image in make.pixels(3)]


@pytest.mark.parametrize("suffix", ["cls", "label", "txt", "CLS"])
@pytest.mark.parametrize("is_first", [True, False])
def test_the_class_of_a_sample_stands_before_or_behind_its_image(
    make: Any, suffix: str, is_first: bool, tmp_path: Path
) -> None:
    members = [("a/1.png", b""), (f"a/1.{suffix}", b" cat\n")]
    members = members[::-1] if is_first else members
    path = save(make, tmp_path / "x.tar", [*members, ("a/2.png", b""), ("b/2.cls", b"dog")])
    assert names_and_labels(make, path) == [("a/1.png", "cat"), ("a/2.png", None)]


def test_the_class_is_preferred_to_a_text(make: Any, tmp_path: Path) -> None:
    members = {"1.txt": b"a photo", "1.png": b"", "1.cls": b"3", "2.txt": b"cat", "2.png": b"", "2.cls": b" \n"}
    path = save(make, tmp_path / "x.tar", members)
    assert names_and_labels(make, path) == [("1.png", "3"), ("2.png", "cat")]


def test_a_long_text_is_no_class(make: Any, tmp_path: Path) -> None:
    path = save(make, tmp_path / "x.tar", {"1.png": b"", "1.txt": b"word " * 1000})
    assert names_and_labels(make, path) == [("1.png", None)]


def test_a_sample_with_two_images_is_two_inputs_of_one_class(make: Any, tmp_path: Path) -> None:
    members = {"x.y/a.left.jpg": b"", "x.y/a.json": b"{}", "x.y/a.right.jpg": b"", "x.y/a.cls": b"1", "x.y/b.jpg": b""}
    path = save(make, tmp_path / "x.tar", members)
    assert names_and_labels(make, path) == [("x.y/a.left.jpg", "1"), ("x.y/a.right.jpg", "1"), ("x.y/b.jpg", None)]


def test_masks_and_sidecars_are_not_images_and_are_counted(make: Any, tmp_path: Path) -> None:
    members = [
        ("a.mask.png", b"mask"), ("a.png", b"1"), ("a.seg.PNG", b"mask"), ("a.json", b"{}"), ("a.cls", b"cat"),
        ("b.seg.png", b"mask"), ("b.jpg", b"2"), ("b.seg.cls", b"dog"),
        ("c.seg.png", b"a mask whose image is missing"), ("c.cls", b"dog"), ("README", b""),
    ]  # fmt: skip
    path = save(make, tmp_path / "x.tar", members)
    source = make.opened(path)
    for _ in range(2):  # counted anew each time
        names = [(name.removeprefix(f"{path}/"), label) for name, _, label in make.rows_of(source)]
        assert names == [("a.png", "cat"), ("b.jpg", None)]
        assert source.left_alone() == {
            ".mask.png": 1, ".seg.png": 3, ".json": 1, ".seg.cls": 1, "no suffix": 1
        }  # fmt: skip


def test_a_very_long_sample_is_split_into_blocks(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {f"video.{index:03}.png": b"" for index in range(150)}
    path = save(make, tmp_path / "x.tar", {"video.cls": b"7", **frames})
    assert names_and_labels(make, path) == [(name, "7") for name in frames]
    monkeypatch.setattr(shards, "BLOCK_BYTES", 10)
    path = save(make, tmp_path / "x.tar", {"a.1.png": bytes(10), "a.2.png": b"", "a.cls": b"7"})
    assert names_and_labels(make, path) == [("a.1.png", None), ("a.2.png", "7")]


def test_hidden_members_are_ignored_and_odd_names_are_kept(make: Any, tmp_path: Path) -> None:
    left_alone = ["._1.png", ".hidden/2.png", "a/.3.png", "__MACOSX/4.png", "./.5/6.png"]
    names = ["../../etc/1.png", "/absolute/2.png", "./3.png", "a/../4.png", "a_b.c/5.png", "a//6.png"]
    path = save(make, tmp_path / "x.tar", [(name, b"") for name in left_alone + names])
    before = sorted(tmp_path.rglob("*"))
    assert [name for name, _, _ in make.rows_of(make.opened(path))] == [f"{path}/{name}" for name in names]
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices_give_no_row_and_folders_are_none(make: Any, tmp_path: Path) -> None:
    image = make.png(make.pixels(1)[0])
    path = tmp_path / "x.tar"
    path.write_bytes(
        special(tarfile.SYMTYPE, "1.png", "/etc/passwd")
        + special(tarfile.LNKTYPE, "2.png", "5.png")
        + special(tarfile.FIFOTYPE, "3.png")
        + special(tarfile.DIRTYPE, "4.png")
        + make.tar({"4.png/5.png": image})
    )
    rows = [(name.removeprefix(f"{path}/"), found) for name, found, _ in make.rows_of(make.opened(path))]
    assert [name for name, _ in rows] == ["1.png", "2.png", "3.png", "4.png/5.png"]
    assert "is a link to /etc/passwd" in rows[0][1]
    assert "is a link to 5.png" in rows[1][1]
    assert rows[2][1] == "is not a regular file"
    assert rows[3][1] == make.pixels(1)[0].tobytes()


def test_a_member_longer_than_any_image_is_not_read(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_MEMBER_BYTES", 1000)
    path = save(make, tmp_path / "x.tar", {"1.png": bytes(1001), "2.png": make.png(make.pixels(1)[0])})
    first, second = make.rows_of(make.opened(path))
    assert first[1] == "too large: 1,001 bytes, at most 1,000"
    assert second[1] == make.pixels(1)[0].tobytes()


@LAW
@given(st.data())
def test_a_shard_cut_anywhere_gives_the_images_before_and_one_input_for_the_rest(
    make: Any, data: st.DataObject
) -> None:
    images = make.pixels(9)
    with tempfile.TemporaryDirectory() as place:
        kind = data.draw(st.sampled_from(["tar", "tar.gz", "tar.xz", "tar.bz2"]))
        path = make.build(kind, Path(place), 9)
        whole = path.read_bytes()
        end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
        path.write_bytes(whole[: data.draw(st.integers(0, end - 1))])
        try:
            rows = make.rows_of(make.opened(path))
        except DataError as error:
            rows = [(f"{path}[0:]", str(error), None)]
    *before, (name, reason, _) = rows
    assert [found for _, found, _ in before] == [image.tobytes() for image in images[: len(before)]]
    assert name == f"{path}[{len(before)}:]"
    assert "cut short" in reason


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_gzipped_shard_with_one_byte_changed_is_never_another_one(make: Any, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = make.build("tar.gz", Path(place), 9)
        damaged = bytearray(path.read_bytes())
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(damaged)
        try:
            rows = make.rows_of(make.opened(path))
        except DataError:
            return
    if all(isinstance(found, bytes) for _, found, _ in rows):  # the change was in a field such as the time
        assert [found for _, found, _ in rows] == [image.tobytes() for image in make.pixels(9)]


def test_a_header_damaged_in_the_middle_is_never_taken_for_the_end(make: Any, tmp_path: Path) -> None:
    path = make.build("tar", tmp_path, 5)
    damaged = bytearray(path.read_bytes())
    damaged[2 * 1024] ^= 1  # the third member's name: each image fits 512 bytes
    path.write_bytes(damaged)
    rows = make.rows_of(make.opened(path))
    assert len(rows) == 3
    assert rows[-1][0] == f"{path}[2:]"
    assert "the header at byte 2,048 cannot be read: bad checksum" in rows[-1][1]


def test_an_incomplete_image_at_the_cut_is_not_an_item(make: Any, tmp_path: Path) -> None:
    whole = make.tar({"1.png": bytes(700), "2.png": bytes(700)})
    (tmp_path / "x.tar").write_bytes(whole[: 3 * 512 + 512 + 600])
    first, rest = make.rows_of(make.opened(tmp_path / "x.tar"))
    assert first[0] == f"{tmp_path}/x.tar/1.png"
    assert rest[:2] == (f"{tmp_path}/x.tar[1:]", f"{tmp_path}/x.tar is cut short inside 2.png.")


def test_images_of_the_sample_that_is_damaged_come_with_what_is_known(make: Any, tmp_path: Path) -> None:
    whole = make.tar({"1.cls": b"cat", "1.png": b"", "1.json": bytes(2000)})
    (tmp_path / "x.tar").write_bytes(whole[:3000])
    assert [label for *_, label in make.rows_of(make.opened(tmp_path / "x.tar"))] == ["cat", None]


def test_a_shard_without_image_says_so(make: Any, tmp_path: Path) -> None:
    path = save(make, tmp_path / "x.tar", {"1.txt": b"text"})
    ((name, reason, _),) = make.rows_of(make.opened(path))
    assert (name, "contains no image" in reason) == (f"{path}[0:]", True)


@pytest.mark.parametrize(
    "content",
    [b"", bytes(10240), b"text", b"x" * 2000, gzip.compress(b"", mtime=0), gzip.compress(b"x" * 600, mtime=0)],
)
@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.tar.gz"])
def test_what_is_no_tar_file_or_an_empty_one_is_a_data_error(
    make: Any, content: bytes, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} (is (cut short|not a tar file)|contains no image)"):
        make.opened(tmp_path / name)


def test_stamps_are_the_shards_and_each_members(make: Any, tmp_path: Path) -> None:
    path = save(make, tmp_path / "x.tar", {f"{index}.png": b"" for index in range(3)})
    found = path.stat()
    shard = f"{found.st_size} {found.st_mtime_ns}"
    expected = [f"{path}/{index}.png\0{shard} {512 * (index + 1)} 0 5" for index in range(3)]
    assert make.stamps_of(make.opened(path)).decode().splitlines() == expected


def test_a_damaged_shard_does_not_stop_the_others(make: Any, tmp_path: Path) -> None:
    good = make.build("tar", tmp_path, 1)
    (tmp_path / "bad.tar").write_bytes(b"text" * 500)
    names = f"{tmp_path}/bad.tar\n{good}\n".encode()
    bad, fine = make.rows_of(make.opened("-", stdin=io.BytesIO(names)))
    assert "not a tar file" in bad[1]
    assert fine[1] == make.pixels(1)[0].tobytes()
