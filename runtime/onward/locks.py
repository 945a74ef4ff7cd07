"""Locks: only one run at a time writes to an output; a second one exits at once.

A lock is held by an open file and ends with the process, however it ends.

Source: Linux, flock(2).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from onward.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows: a second run at the same output is not detected
    fcntl = None  # type: ignore[assignment]

__all__ = ["CAN_LOCK", "open_locked", "sole_writer"]

CAN_LOCK = fcntl is not None


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Let no other run write to `out` meanwhile. A hidden file beside `out` is locked, and removed at the end.

    Raises:
        OSError: The folder of `out` cannot be written.
        OutputError: Another run is writing to `out`.
    """
    out = out.absolute()  # `.` has no name
    path = out.with_name(f".{out.name}.lock")
    with open_locked(path, out):
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()  # while it is locked


def open_locked(path: Path, out: Path) -> BinaryIO:
    """Open and lock a file, with whatever it contains; it is created if it is not there.

    Args:
        path: The file.
        out: The output that it belongs to, for the message.

    Raises:
        OSError: It cannot be opened.
        OutputError: Another run holds the lock.
    """
    while True:
        stream = cast(BinaryIO, path.open("r+b" if path.exists() else "w+b", buffering=0))
        try:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise OutputError(f"another run is writing {out}: wait for it, or choose another --out.") from error
        except OSError:  # a file system without locks
            return stream
        if not CAN_LOCK or _is_at(stream, path):
            return stream
        stream.close()  # a run that has just ended removed the file


def _is_at(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False
