"""Tracing for tests: by forks of a process that has imported PyTorch and traced nothing.

A fork of it is as fresh as a new process, and starts in no time; half of the tests' exports would otherwise wait for an
import of PyTorch. `tests/export/test_publish.py` has the new process, too.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import pytest

__all__ = ["TracedByFork", "traced_by_forks"]


class TracedByFork:
    """Stands in for the `subprocess.Popen` of `onward_export.formats.torchscript`; one at a time.

    Args:
        command: Its command; the last three are what is handed over, where to, and how.
    """

    returncode: int | None = None

    def __init__(self, command: list[str], **options: Any) -> None:
        self.server = _server()
        assert self.server.stdin
        self.server.stdin.write(json.dumps([sys.path, *command[-3:]]) + "\n")
        self.server.stdin.flush()

    def communicate(self) -> tuple[None, str]:
        assert self.server.stdout
        self.returncode, complaint = json.loads(self.server.stdout.readline())
        return None, complaint

    def kill(self) -> None:
        self.communicate()  # a fork ends soon; its answer must not be taken for the next one's

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@functools.cache
def _server() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def traced_by_forks() -> Iterator[None]:
    """Exports of this process trace so, meanwhile."""
    import onward_export.formats.torchscript

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onward_export.formats.torchscript, "subprocess", SimpleNamespace(Popen=TracedByFork, PIPE=None))
        yield
    if _server.cache_info().currsize:
        with _server():  # on leaving its input is closed, and it ends
            _server.cache_clear()


def _serve() -> None:
    import torchvision.models  # noqa: F401  # what takes the time

    import onward_export.formats.torchscript

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        paths, *arguments = json.loads(line)
        with tempfile.TemporaryFile("w+") as complaint:
            if not (child := os.fork()):
                os.dup2(complaint.fileno(), 2)
                sys.path[:] = paths
                os._exit(_trace(onward_export.formats.torchscript._write, *arguments))
            _, status = os.waitpid(child, 0)
            complaint.seek(0)
            answers.write(json.dumps([os.waitstatus_to_exitcode(status), complaint.read()]) + "\n")
            answers.flush()


def _trace(write: Any, handed_over: str, path: str, how: str) -> int:
    try:
        write(Path(handed_over), Path(path), how)
    except BaseException:  # whatever it is, it goes to who asked, and no further: this process is a copy
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
