from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from onward.bundle import previous_path
from onward.errors import OutputError
from onward.files import check_writable, staged_folder, written_whole
from tests.small_disk import small_disk

DISK_BYTES = 64 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as place:
        yield place


@pytest.fixture
def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without renameat2."""

    def missing(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSYS, "no such library")

    monkeypatch.setattr("ctypes.CDLL", missing)


def fill(folder: Path, **files: str) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "rows.csv"
    with written_whole(path) as staged:
        staged.write_text("rows")
        assert not path.exists()
        assert staged.parent == path.parent  # on the same file system, so that the rename is one step
    assert content(path.parent) == {"rows.csv": "rows"}


@pytest.mark.parametrize("name", ["folder", "file/rows", "x" * 250])
def test_a_path_where_no_file_can_be_written_is_an_error_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="could not be written"):
        check_writable(tmp_path / name)
    check_writable(tmp_path / "new" / "rows")
    assert not list((tmp_path / "new").iterdir())


def test_only_one_run_writes_to_a_folder_and_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    for name in (".digits.abcdefgh.staged", ".digits.two.abcdefgh.staged", ".digits.notes"):
        (tmp_path / name).mkdir()
    with staged_folder(tmp_path / "digits") as staged:
        fill(staged, new="1")
        with pytest.raises(OutputError, match="another run is writing"), staged_folder(tmp_path / "digits"):
            pass
        with staged_folder(tmp_path / "digits.two"):
            pass
    assert content(tmp_path / "digits") == {"new": "1"}
    assert {path.name for path in tmp_path.iterdir()} == {"digits", "digits.two", ".digits.notes"}


def test_a_file_replaces_an_earlier_one(tmp_path: Path) -> None:
    fill(tmp_path, rows="old")
    with written_whole(tmp_path / "rows") as staged:
        staged.write_text("new")
        assert content(tmp_path)["rows"] == "old"
    assert content(tmp_path) == {"rows": "new"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_the_earlier_file(error: type[BaseException], tmp_path: Path) -> None:
    fill(tmp_path, rows="old")
    with pytest.raises(error), written_whole(tmp_path / "rows") as staged:
        staged.write_text("half of the n")
        raise error
    assert content(tmp_path) == {"rows": "old"}


def test_a_full_disk_leaves_the_earlier_file(disk: Path) -> None:
    fill(disk, rows="old")
    with (
        pytest.raises(OutputError, match="no space is left"),
        written_whole(disk / "rows") as staged,
    ):
        staged.write_bytes(bytes(2 * DISK_BYTES))
    assert content(disk) == {"rows": "old"}


def test_a_stream_that_overflows_as_it_is_closed_leaves_the_earlier_file(disk: Path) -> None:
    fill(disk, rows="old", ballast="x" * (DISK_BYTES - 3 * 4096))
    with (
        pytest.raises(OutputError, match="no space is left"),
        written_whole(disk / "rows") as staged,
        staged.open("w", buffering=DISK_BYTES) as stream,
    ):
        stream.write("y" * (3 * 4096))
    assert content(disk)["rows"] == "old"
    assert len(list(disk.iterdir())) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_full_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="no space is left"),
        written_whole(tmp_path / "rows") as staged,
        Path("/dev/full").open("w") as full,
    ):
        staged.write_text("copied on")
        full.write("rows")
    assert not list(tmp_path.iterdir())


def test_a_folder_where_the_file_should_go_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    with pytest.raises(OutputError, match="rows could not be written"), written_whole(tmp_path / "rows") as staged:
        staged.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


def test_a_file_where_its_folder_should_be_is_an_output_error(tmp_path: Path) -> None:
    fill(tmp_path, file="no folder")
    with pytest.raises(OutputError, match="rows could not be written"), written_whole(tmp_path / "file" / "rows"):
        pass
    assert content(tmp_path) == {"file": "no folder"}


def test_a_name_too_long_to_stage_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="could not be written"), written_whole(tmp_path / ("x" * 255)) as staged:
        staged.write_text("new")
    assert not list(tmp_path.iterdir())


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "digits"
    with staged_folder(path) as staged:
        fill(staged, one="1", two="2")
        assert not path.exists()
        assert staged.parent == path.parent
    assert content(path) == {"one": "1", "two": "2"}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_folder_is_as_readable_as_any_new_one(tmp_path: Path) -> None:
    (tmp_path / "ordinary").mkdir()
    with staged_folder(tmp_path / "digits"):
        pass
    assert (tmp_path / "digits").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_folder_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "digits"
    path.mkdir()
    fill(path, old="old", both="old")
    with staged_folder(path) as staged:
        fill(staged, new="new", both="new")
        assert content(path) == {"old": "old", "both": "old"}
    assert content(path) == {"new": "new", "both": "new"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("without_exchange")
def test_a_folder_takes_the_place_of_an_earlier_one_without_renameat2(tmp_path: Path) -> None:
    test_a_folder_takes_the_place_of_an_earlier_one(tmp_path)


@pytest.mark.usefixtures("without_exchange")
def test_a_crash_between_the_two_renames_leaves_the_earlier_folder_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "digits"
    path.mkdir()
    fill(path, old="old")
    rename = Path.rename

    def crash_after_the_first(source: Path, target: Path) -> Path:
        if source != path:
            raise KeyboardInterrupt
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", crash_after_the_first)
    with pytest.raises(KeyboardInterrupt), staged_folder(path) as staged:
        fill(staged, new="new")
    assert content(previous_path(path)) == {"old": "old"}  # `Bundle.open` puts it back


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_the_earlier_folder(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "digits"
    path.mkdir()
    fill(path, old="old")
    with pytest.raises(error), staged_folder(path) as staged:
        fill(staged, new="half of the n")
        raise error
    assert content(path) == {"old": "old"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_earlier_folder(disk: Path) -> None:
    path = disk / "digits"
    path.mkdir()
    fill(path, old="old")
    with pytest.raises(OutputError, match="no space is left"), staged_folder(path) as staged:
        for index in range(10):
            (staged / str(index)).write_bytes(bytes(DISK_BYTES // 4))
    assert content(path) == {"old": "old"}
    assert list(disk.iterdir()) == [path]


def test_a_folder_is_replaced_on_a_disk_with_room_for_both_only(disk: Path) -> None:
    path = disk / "digits"
    for version in ("old", "new"):
        with staged_folder(path) as staged:
            fill(staged, model=version, ballast="x" * (DISK_BYTES // 3))
    assert content(path)["model"] == "new"
    assert list(disk.iterdir()) == [path]


def test_a_file_where_the_parent_should_be_is_an_output_error_for_folders(tmp_path: Path) -> None:
    fill(tmp_path, file="no folder")
    with pytest.raises(OutputError, match="could not be written"), staged_folder(tmp_path / "file" / "digits"):
        pass
    assert content(tmp_path) == {"file": "no folder"}


def test_where_a_link_to_a_folder_stands_nothing_is_left_beside_it(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "digits"
    path.symlink_to(tmp_path / "elsewhere")
    with staged_folder(path) as staged:
        fill(staged, new="new")
    assert content(path) == {"new": "new"}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["digits", "elsewhere"]


def test_a_new_folder_clears_away_what_a_crash_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "digits"
    previous_path(path).mkdir()
    fill(previous_path(path), old="old")
    with staged_folder(path) as staged:
        fill(staged, new="new")
    assert content(path) == {"new": "new"}
    assert list(tmp_path.iterdir()) == [path]  # else it would come back when `path` is deleted


def test_a_process_that_is_killed_leaves_the_earlier_content(tmp_path: Path) -> None:
    fill(tmp_path, rows="old")
    (tmp_path / "digits").mkdir()
    fill(tmp_path / "digits", old="old")
    program = (
        "import os, sys; from pathlib import Path; from onward.files import staged_folder, written_whole\n"
        "place = Path(sys.argv[1])\n"
        "with written_whole(place / 'rows') as file, staged_folder(place / 'digits') as folder:\n"
        "    file.write_text('new'); (folder / 'new').write_text('new'); os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=root, check=False, timeout=60)
    assert (tmp_path / "rows").read_text() == "old"
    assert content(tmp_path / "digits") == {"old": "old"}
