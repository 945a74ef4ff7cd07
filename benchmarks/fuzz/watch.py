"""Watch: notices when a file that is read does something: starts a process, writes a file, changes the environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["Deed", "watched", "working_in"]

#: Python's audit events of what no model needs.
EVENTS = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.putenv", "os.remove", "os.rename", "os.rmdir",
          "os.spawn", "os.startfile", "os.system", "os.unsetenv", "pty.spawn", "shutil.rmtree", "socket.bind",
          "socket.connect", "subprocess.Popen")  # fmt: skip
#: A module that the planted attacks import; importing it is a deed. See tests/runtime/bundle/attacks.py.
DOER = "open('deed', 'w').close()"


class Deed(Exception):
    """What a file did while it was read."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in this folder, and afterwards again where it was before: `contextlib.chdir`, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Work in an empty folder of its own, with a module in it that is not to be imported, and watch.

    Python reports its own calls (`sys.addaudithook`). What libraries in C++ write is seen in the folder: the files of
    the planted attacks name no other place.

    Raises:
        Deed: Something was done.
    """
    folder.mkdir(exist_ok=True)
    (folder / "doer.py").write_text(DOER)
    environment = dict(os.environ)
    paths, sys.path[:] = [*sys.path], ["", *sys.path]
    _deeds.clear()
    try:
        with working_in(folder):
            _install()
            _watching.append(True)
            try:
                yield
            finally:
                _watching.clear()
                sys.modules.pop("doer", None)
                _check(folder, environment)
    finally:
        sys.path[:] = paths


def _check(folder: Path, environment: dict[str, str]) -> None:
    deeds = [*_deeds]
    deeds += [f"it wrote {item.name}" for item in folder.iterdir() if item.name not in ("doer.py", "__pycache__")]
    if (folder / "doer.py").read_text() != DOER:
        deeds.append("it changed doer.py")
    if dict(os.environ) != environment:
        deeds.append("it changed the environment")
    if deeds:
        raise Deed(", ".join(deeds))


_watching: list[bool] = []
_deeds: list[str] = []
_installed: list[bool] = []


def _install() -> None:
    if not _installed:  # a hook cannot be removed
        _installed.append(True)
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in EVENTS:
        _deeds.append(f"{event} {arguments!r}"[:200])
    elif event == "open":
        path, _, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes and isinstance(path, str) and "__pycache__" not in path and path != os.devnull:
            _deeds.append(f"it opened {path!r} to write")
