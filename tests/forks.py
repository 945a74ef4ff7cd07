"""New processes that start at once: forks of a process that has imported PyTorch and Onward, and has done nothing else.

Such a fork is as fresh as a new process. Most commands of a test would otherwise wait for an import of PyTorch, which
takes several times as long as their work. `tests/export/test_publish.py`, `tests/test_own_packages.py` and
`tests/test_install.py` start new processes, too.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from onward_export.processes import start_server

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CAN_FORK", "Fork", "ModuleByFork"]

CAN_FORK = hasattr(os, "fork")
ROOT = Path(__file__).parents[1]
#: Where a new process finds modules: what a script and this server's PYTHONPATH add comes off.
PATHS = [path for path in sys.path if path not in (str(ROOT), str(ROOT / "tests"))]


class Fork:
    """One call of a function of `FUNCTIONS`, in a process of its own; as much of `subprocess.Popen` as tests need.

    A process has one such fork at a time.

    Args:
        function: Its name in `FUNCTIONS`.
        arguments: Its arguments, texts all of them.
        cwd: The working directory.
        env: The environment; OMP_NUM_THREADS counts from the beginning, as in a new process.
    """

    returncode: int | None = None

    def __init__(
        self,
        function: str,
        arguments: Sequence[str],
        *,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        self._folder = tempfile.TemporaryDirectory(prefix="onward-fork-")
        self._outputs = [str(Path(self._folder.name, name)) for name in ("out", "err")]
        for path in self._outputs:
            Path(path).touch()
        self._server = _server(environment.get("OMP_NUM_THREADS"))
        request = [function, list(arguments), sys.path, os.fspath(cwd or Path.cwd()), environment, *self._outputs]
        _stdin(self._server).write(json.dumps(request).encode() + b"\n")
        self.pid = int(self._line())

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end.

        Returns:
            Standard output and standard error.

        Raises:
            subprocess.TimeoutExpired: It has not ended within so many seconds; it goes on.
        """
        if self.returncode is None:
            if not select.select([_stdout(self._server)], [], [], timeout)[0]:
                assert timeout is not None
                raise subprocess.TimeoutExpired("fork", timeout)
            self.returncode = int(self._line())
        out, errors = (Path(path).read_text() for path in self._outputs)
        return out, errors

    def send_signal(self, number: int) -> None:
        """Send a signal to it."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self.send_signal(signal.SIGKILL)
            self.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._folder.cleanup()

    def _line(self) -> bytes:
        """One line of the server's answers, byte by byte: `select` cannot see what is left in a buffer."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(_stdout(self._server).fileno(), 1)
            if not byte:
                raise RuntimeError(f"the process that forks has ended: {self._server.wait()}")
            line += byte
        return line


class ModuleByFork(Fork):
    """Stands in for the `subprocess.Popen` of `python -m MODULE`, where its output is read at the end.

    Args:
        command: Python, `-m`, the module, and its arguments.
        cwd: The working directory.
        env: The environment.
    """

    stdout = stderr = None

    def __init__(self, command: list[str], *, cwd: Path, env: Mapping[str, str], **options: Any) -> None:
        assert command[:2] == [sys.executable, "-m"]
        super().__init__("module", command[2:], cwd=cwd, env=env)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; see `Fork`."""
        said = super().communicate(timeout)
        self._folder.cleanup()
        return said

    def poll(self) -> int | None:
        """The exit code, if it was waited for."""
        return self.returncode


def _stdin(server: subprocess.Popen[bytes]) -> IO[bytes]:
    assert server.stdin is not None
    return server.stdin


def _stdout(server: subprocess.Popen[bytes]) -> IO[bytes]:
    assert server.stdout is not None
    return server.stdout


@functools.cache
def _server(num_threads: str | None) -> subprocess.Popen[bytes]:
    """The process that forks; it ends with the input that it is given, so when this process ends."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("OMP_NUM_THREADS", None)
    if num_threads is not None:
        environment["OMP_NUM_THREADS"] = num_threads
    return subprocess.Popen(
        [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Fork once for each request: one line with its process id, and one with its exit code when it has ended."""
    for line in iter(requests.readline, b""):
        function, arguments, paths, cwd, environment, out, errors = json.loads(line)
        if not (child := os.fork()):
            _run(function, arguments, paths, cwd, environment, out, errors)
        answers.write(b"%d\n" % child)
        _, status = os.waitpid(child, 0)
        answers.write(b"%d\n" % os.waitstatus_to_exitcode(status))


def _run(
    function: str, arguments: list[str], paths: list[str], cwd: str, environment: dict[str, str], *outputs: str
) -> None:
    def call() -> None:
        for number, path in enumerate(outputs, 1):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            os.dup2(file, number)
            os.close(file)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = paths
        FUNCTIONS[function](*arguments)

    _end_with(call)


def _end_with(call: Callable[[], None]) -> NoReturn:
    """End this process, which is a fork, with the exit code of a function."""
    code = 1
    try:
        call()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # whatever it is, it goes to who asked, and no further: this process is a copy
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _onward(*arguments: str) -> None:
    """`python -m onward`."""
    from onward.cli.app import main

    _begin("onward", *arguments)
    main()


def _onward_twice(*arguments: str) -> None:
    """`python -m onward` in two processes at once; their exit codes are the last line of standard output."""
    children = [os.fork() or _end_with(functools.partial(_onward, *arguments)) for _ in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.stdout.write(f"{json.dumps(codes)}\n")


def _module(name: str, *arguments: str) -> None:
    """`python -m NAME`."""
    _begin(name, *arguments)
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _begin(*argv: str) -> None:
    """Paths and arguments of a new process."""
    added = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:] = [str(Path.cwd()), *added, *PATHS]
    sys.argv = [*argv]


def _demo(*arguments: str) -> None:
    """`onward demo`, with fewer rounds of its bench: they make its figures surer, and take half a minute."""
    import onward_export.demo

    bench = onward_export.demo.BENCH
    onward_export.demo.BENCH = replace(bench, num_rounds=2, max_warm_up_s=0.1, pause_s=0.01)
    _onward("demo", *arguments)


FUNCTIONS: dict[str, Callable[..., None]] = {
    "onward": _onward,
    "onward twice": _onward_twice,
    "module": _module,
    "demo": _demo,
}
#: What the server imports, which takes the time.
IMPORTED = (
    *("onnx", "onnxruntime", "onnxscript", "torch.export._trace", "torch.onnx._internal.exporter._core"),
    *("torchvision.models", "onward.cli.app", "onward_export.commands", "onward_export.publish"),
    *("onward_training.commands", "onward_training.loop"),
)

if __name__ == "__main__":
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    start_server()  # for the exports of all forks
    requests, answers = os.fdopen(os.dup(0), "rb", 0), os.fdopen(os.dup(1), "wb", 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _serve(requests, answers)
