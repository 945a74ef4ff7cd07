"""Files: write files and folders atomically: staged beside the target, synced, renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onward.bundle import previous_path
from onward.errors import OutputError
from onward.locks import CAN_LOCK, sole_writer

__all__ = ["cannot_write", "check_new", "check_writable", "remove_leftovers", "staged_folder", "sync", "written_whole"]

AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving, the file is synced and renamed to `path`.

    An error inside, or a crash, leaves the existing file at `path` untouched.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    staged = _staged_file(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        sync(staged)
        staged.replace(path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            staged.unlink()


@contextmanager
def staged_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; on leaving, it is synced and replaces `path`.

    An existing folder is exchanged with the new one in one step (renameat2). Where the system cannot do that, it is
    moved aside first; `Bundle.open` puts it back after a crash between the two renames. What a process that was killed
    left beside `path` is removed.

    Raises:
        OutputError: The disk is full, the folder is not writable, or another run is writing to it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sole_writer(path):
            remove_leftovers(path)
            staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".staged", dir=path.parent))
            try:
                yield staged
                staged.chmod(0o777 & ~_umask())
                for item in (*staged.rglob("*"), staged):
                    sync(item)
                _replace(staged, path)
                sync(path.parent)
            finally:
                _remove(staged)
    except OSError as error:
        raise cannot_write(path, error) from error


def check_new(path: Path, overwrite: bool) -> None:
    """Check that a file can be written and replaces nothing unasked, before the work begins whose result it will hold.

    Args:
        path: The file.
        overwrite: Whether it may replace another one.

    Raises:
        OutputError: It cannot be written, or there is one and `overwrite` was not given.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. --overwrite replaces it.")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Check that a file can be written at this path, before the work begins whose result it will hold.

    Raises:
        OutputError: It cannot, or there is a folder.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder, expected a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = _staged_file(path)
        staged.touch()
        staged.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def remove_leftovers(path: Path) -> None:
    """Remove what `written_whole` and `staged_folder` left beside `path` in processes that were killed.

    Call it only while no other run writes to `path`, see `onward.locks`.
    """
    if not CAN_LOCK:
        return
    pattern = re.compile(rf"\.{re.escape(path.name)}\.(\d+\.part|\w{{8}}\.staged)")  # as getpid and mkdtemp name them
    for found in path.parent.iterdir():
        if pattern.fullmatch(found.name):
            _remove(found)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """An error of the system as one that names the path."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"{path} could not be written: no space is left on the disk. An existing file there is untouched."
        )
    return OutputError(f"{path} could not be written: {error.strerror or error}.")


def _replace(staged: Path, path: Path) -> None:
    previous = previous_path(path)
    if not path.exists():
        staged.rename(path)
    elif not _exchange(staged, path):
        _remove(previous)
        path.rename(previous)
        staged.rename(path)
    _remove(previous)


def _staged_file(path: Path) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}.part"


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; False if the system has no such call.

    Source: Linux, renameat2(2), RENAME_EXCHANGE.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    if os.name != "posix" and path.is_dir():
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
