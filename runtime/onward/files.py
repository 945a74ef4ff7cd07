"""Files: write files and folders atomically: staged beside the target, synced, renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onward.bundle import previous_path
from onward.errors import OutputError

__all__ = ["cannot_write", "staged_folder", "sync", "written_whole"]

AT_FDCWD = -100
RENAME_EXCHANGE = 2


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving, the file is synced and renamed to `path`.

    An error inside, or a crash, leaves the existing file at `path` untouched.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    staged = path.parent / f".{path.name}.{os.getpid()}.part"
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
    moved aside first; `Bundle.open` puts it back after a crash between the two renames.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".staged", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield staged
        staged.chmod(0o777 & ~_umask())
        for item in (*staged.rglob("*"), staged):
            sync(item)
        _replace(staged, path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        _remove(staged)


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


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
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
