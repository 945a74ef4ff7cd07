"""Faster exports for tests: PyTorch's table of operators is built once, and TorchScript is traced in forks.

A fork of a process that has imported PyTorch and traced nothing is as fresh as a new process, and starts at once. Half
of the tests' exports would otherwise wait for an import of PyTorch. `tests/export/test_publish.py` tests the new
process, too.
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
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import pytest

__all__ = ["TracedByFork", "fast_exports"]


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
def fast_exports() -> Iterator[None]:
    """Exports of this process run faster meanwhile, with the same results."""
    global _are_fast
    if _are_fast:
        yield
        return
    _are_fast = True
    try:
        with one_table_of_operators(), traced_by_forks() if hasattr(os, "fork") else nullcontext():
            yield
    finally:
        _are_fast = False


_are_fast = False


@contextmanager
def one_table_of_operators() -> Iterator[None]:
    """Build PyTorch's table of ONNX operators once a process; it builds one an export, in half of a small one's time.

    The table comes from the installed packages alone; every export gets a copy, to which it may add.
    Source: torch.onnx._internal.exporter._registration, `ONNXRegistry.from_torchlib`.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    build = functools.cache(ONNXRegistry.from_torchlib)

    def copy_of_it(**options: int) -> ONNXRegistry:
        registry, copied = build(**options), ONNXRegistry()
        copied._opset_version = registry.opset_version
        copied.functions = {name: list(functions) for name, functions in registry.functions.items()}
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copy_of_it))
        yield


@contextmanager
def traced_by_forks() -> Iterator[None]:
    """Exports of this process trace TorchScript in forks of one process that has imported PyTorch."""
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
