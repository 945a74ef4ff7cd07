from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onward.errors import DataError
from onward.sources import files
from onward.sources.left_alone import LeftAlone

ROOT = Path(__file__).parents[3]


def save(make: Any, folder: Path, names: list[str]) -> None:
    for name, image in zip(names, make.pixels(len(names)), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(make.png(image))


def names_of(make: Any, *paths: Any) -> list[str]:
    return [name for name, _, _ in make.rows_of(make.opened(*paths))]


def reason_of(make: Any, path: Path) -> str:
    ((_, reason, _),) = make.rows_of(make.opened(path))
    assert isinstance(reason, str)
    return reason


def test_a_folder_is_read_recursively_files_first_in_the_order_of_names(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(make, tmp_path / "photos", ["b.png", "a.PNG", "z/2.png", "z/10.png", "c/d/x.png", "c/y.png"])
    (tmp_path / "photos" / "notes.txt").write_text("left alone")
    monkeypatch.chdir(tmp_path)
    below = ["a.PNG", "b.png", "c/y.png", "c/d/x.png", "z/10.png", "z/2.png"]
    for given, shown in {"photos": "photos/", "./photos/": "./photos/"}.items():
        assert names_of(make, given) == [shown + name for name in below]
        assert make.opened(given).count() == 6


def test_folders_come_in_the_order_of_names_whatever_order_the_disk_has(make: Any, tmp_path: Path) -> None:
    names = [f"{letter}/image.png" for letter in "qazwsxedcrfvtgbyhnujm"]
    save(make, tmp_path, names)
    assert names_of(make, tmp_path) == [f"{tmp_path}/{name}" for name in sorted(names)]


def test_the_folder_of_an_image_is_its_label(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(make, tmp_path / "cats", ["1.png", "tabby/2.png"])
    monkeypatch.chdir(tmp_path / "cats")
    for given in (".", tmp_path / "cats", f"{tmp_path}/cats/"):
        assert [label for *_, label in make.rows_of(make.opened(given))] == ["cats", "tabby"]
    assert [label for *_, label in make.rows_of(make.opened("1.png"))] == [None]


def test_hidden_files_and_files_of_archivers_are_ignored(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["a.png", ".a.png", "._b.png", ".git/c.png", "__MACOSX/d.png"])
    assert names_of(make, tmp_path) == [f"{tmp_path}/a.png"]
    assert make.opened(tmp_path).count() == 1


def test_files_that_are_left_alone_are_counted_by_suffix(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["a.png", "b.jfif", "c.jpe", "d.avif", "deep/e.png", ".hidden.txt"])
    for name in ("n.txt", "deep/m.TXT", "README", "x.heif2", "odd.\x1b[2J", "deep/labels.csv"):
        (tmp_path / name).write_text("text")
    source = make.opened(tmp_path)
    expected = {".txt": 2, "no suffix": 1, ".heif2": 1, "other": 1, ".csv": 1}
    for _ in range(2):  # counted anew each time
        assert len(make.rows_of(source)) == 5
        assert source.left_alone() == expected
    both = make.opened(tmp_path, tmp_path / "deep")
    make.rows_of(both)
    assert both.left_alone() == expected | {".txt": 3, ".csv": 2}


def test_left_alone_suffixes_are_bounded() -> None:
    left_alone = LeftAlone()
    for index in range(1000):
        left_alone.add_file(f"x.a{index}")
    assert len(left_alone.counts) == 51
    assert left_alone.counts["other"] == 950


@pytest.mark.parametrize("content", [[], ["notes.txt"], [".hidden.png"]])
def test_a_folder_without_images_is_a_data_error(make: Any, content: list[str], tmp_path: Path) -> None:
    for name in content:
        (tmp_path / name).write_text("text")
    with pytest.raises(DataError, match="contains no image") as caught:
        make.opened(tmp_path)
    assert ("Left alone: 1 .txt" in str(caught.value)) == (content == ["notes.txt"])


def test_a_folder_named_as_an_image_is_a_folder(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["x.jpg/1.png", "y.png"])
    assert names_of(make, tmp_path) == [f"{tmp_path}/y.png", f"{tmp_path}/x.jpg/1.png"]


def test_a_link_back_to_its_folder_is_reported_and_not_followed(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["a/1.png"])
    (tmp_path / "a" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to("self")
    first, back = make.rows_of(make.opened(tmp_path))
    assert first[0] == f"{tmp_path}/a/1.png"
    assert back[0] == f"{tmp_path}/a/back"
    assert "a link back" in back[1]
    assert make.opened(tmp_path).count() == 2


def test_a_link_to_a_folder_elsewhere_is_followed(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["real/1.png", "photos/2.png"])
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "real", target_is_directory=True)
    assert names_of(make, tmp_path / "photos") == [f"{tmp_path}/photos/2.png", f"{tmp_path}/photos/more/1.png"]


def test_folders_may_be_nested_deeper_than_the_recursion_limit(make: Any, tmp_path: Path) -> None:
    name = "d/" * 200 + "x.png"
    save(make, tmp_path, [name])
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 150)
    try:
        assert names_of(make, tmp_path) == [f"{tmp_path}/{name}"]
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an image"),
        (b"this is text", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image|cannot be decoded"),
    ],
)
def test_a_file_that_is_not_an_image_does_not_stop_the_others(
    make: Any, content: bytes, reason: str, tmp_path: Path
) -> None:
    save(make, tmp_path, ["a.png", "c.png"])
    (tmp_path / "b.png").write_bytes(content)
    a, b, c = make.rows_of(make.opened(tmp_path))
    assert (a[1], c[1]) == tuple(image.tobytes() for image in make.pixels(2))
    assert any(part in b[1] for part in reason.split("|"))


def test_an_image_cut_short_gives_no_row(make: Any, tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    assert "cannot be decoded" in reason_of(make, tmp_path / "cut.png")


def test_a_jpeg_called_png_is_read(make: Any, tmp_path: Path) -> None:
    Image.new("L", (4, 4), 77).save(tmp_path / "x.png", "JPEG")
    ((_, found, _),) = make.rows_of(make.opened(tmp_path))
    assert set(found) == {77}


def test_one_pixel_is_an_image(make: Any, tmp_path: Path) -> None:
    Image.new("L", (1, 1), 9).save(tmp_path / "x.png")
    assert make.rows_of(make.opened(tmp_path))[0][1] == bytes([9] * 16)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(make: Any, tmp_path: Path) -> None:
    Image.new("1", (30_000, 30_000)).save(tmp_path / "x.png")
    tracemalloc.start()
    try:
        assert "too large" in reason_of(make, tmp_path / "x.png")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_a_file_longer_than_any_image_is_not_read(make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    (tmp_path / "x.png").write_bytes(bytes(11))
    assert "too large: 11 bytes, at most 10" in reason_of(make, tmp_path / "x.png")


def test_a_link_to_nothing_or_to_itself_gives_no_row(make: Any, tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    gone, circle = make.rows_of(make.opened(tmp_path))
    assert "No such file" in gone[1]
    assert "symbolic links" in circle[1]


def test_a_file_that_vanishes_after_it_was_listed_gives_no_row(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["a.png", "b.png"])
    (block,) = make.opened(tmp_path).blocks()
    (tmp_path / "a.png").unlink()
    a, b = make.block_rows(block)
    assert "No such file" in a[1]
    assert b[1] == make.pixels(2)[1].tobytes()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_does_not_hang(make: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    assert reason_of(make, tmp_path) == "is not a regular file"
    with pytest.raises(DataError, match="is not a regular file"):
        make.opened(tmp_path / "x.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="this system may refuse such a name")
def test_a_name_that_is_not_utf8_is_read_and_stamped(make: Any, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    Path(os.fsdecode(path)).write_bytes(make.png(make.pixels(1)[0]))
    source = make.opened(tmp_path)
    ((name, found, _),) = make.rows_of(source)
    assert os.fsencode(name) == path
    assert found == make.pixels(1)[0].tobytes()
    assert make.stamps_of(source).startswith(path)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="this system has no permissions to take away")
def test_a_file_without_read_permission_does_not_stop_the_others(make: Any) -> None:
    code = (
        "import os, sys\n"
        "from onward.sources import open_sources\n"
        "from onward.signature import Signature\n"
        "from onward.errors import ImageError\n"
        "import PIL.PngImagePlugin, onward.sources.shards\n"
        "os.getuid() or os.setuid(65534)\n"
        "signature = Signature(4, 4, 1, (0.5,), (0.5,), ('a', 'b'))\n"
        "for path in sys.argv[1:]:\n"
        "    for block in open_sources([path], signature).blocks():\n"
        "        for item in block.items:\n"
        "            try:\n"
        "                print(item.name[-5:], len(item.read()) > 0)\n"
        "            except ImageError as error:\n"
        "                print(item.name[-5:], error)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        save(make, folder, ["a.png", "b.png", "c/d.png", "e.png"])
        folder.chmod(0o755)
        (folder / "b.png").chmod(0)
        (folder / "c").chmod(0)
        arguments = [sys.executable, "-c", code, place, f"{place}/b.png"]
        found = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
        (folder / "c").chmod(0o700)
    denied = "cannot be read: Permission denied"
    assert found.stdout.splitlines() == [
        "a.png True",
        f"b.png {denied}",
        "e.png True",
        f"{place}/c"[-5:] + " the folder cannot be listed: Permission denied",
        f"b.png {denied}",
    ], found.stderr


def test_a_changed_file_has_another_stamp(make: Any, tmp_path: Path) -> None:
    save(make, tmp_path, ["a.png"])
    stamps = {make.stamps_of(make.opened(tmp_path))}
    os.utime(tmp_path / "a.png", ns=(1, 1))
    stamps.add(make.stamps_of(make.opened(tmp_path)))
    with (tmp_path / "a.png").open("ab") as stream:
        stream.write(b"more")
    os.utime(tmp_path / "a.png", ns=(1, 1))
    stamps.add(make.stamps_of(make.opened(tmp_path)))
    assert len(stamps) == 3
