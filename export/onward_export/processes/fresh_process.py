"""Fresh process: runs a program in a process that has run nothing else.

On Linux it is a fork of a process that has imported libraries and done nothing else; elsewhere it is a new process.
Both behave alike.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import onward
import onward_export
from onward.host.interpreter import python_command

__all__ = ["TORCH", "FreshProcess", "start_server"]

SERVER = "import sys; from onward_export.processes.fork_server import main; main(int(sys.argv[1]), sys.argv[2:])"
CAN_FORK = sys.platform == "linux"
#: PyTorch, and what `torch.export.load` and torchvision import later.
TORCH = ("torch", "torch._dynamo", "torch.export._trace")
#: Beginnings of the environment variables that libraries read when they are imported.
READ_AT_IMPORT = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "TORCH", "PYTORCH", "CUDA", "LD_", "PYTHONHASHSEED")
#: The folders in which Python finds Onward.
ROOTS = tuple(dict.fromkeys(str(Path(package.__path__[0]).parent) for package in (onward, onward_export)))


class FreshProcess:
    """A process that runs a program as `python -c PROGRAM ARGUMENTS` does.

    Args:
        program: Python code.
        arguments: `sys.argv[1:]` of it.
        paths: Its `sys.path`. Default: the folders of Onward, PYTHONPATH and the installed packages.
        imports: Modules that it will import and that take long.
    """

    def __init__(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        paths: Sequence[str] | None = None,
        imports: Sequence[str] = TORCH,
    ) -> None:
        self.arguments = list(arguments)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._code: int | None = None
        self._popen: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        #: Standard input and output.
        self.stdin: IO[bytes]
        self.stdout: IO[bytes]
        if CAN_FORK:
            self._fork(program, paths, imports)
        else:
            self._start(program, paths)

    def wait(self) -> int:
        """Wait for the end.

        Returns:
            The exit code; the negative number of the signal that ended it.
        """
        if self._popen is not None:
            return self._popen.wait()
        if self._code is None:
            line = self._status.readline() if self._pid_of_fork() is not None else b""
            self._code = int(line) if line else -signal.SIGKILL  # what waits for it was ended with it
        return self._code

    def kill(self) -> None:
        """End it."""
        if self._popen is not None:
            self._popen.kill()
        elif (pid := self._pid_of_fork()) is not None and self._code is None and not self._has_news():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def errors(self) -> str:
        """What it has written to standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def close(self) -> None:
        """End it and close its streams. One that was not forked yet will not be: nobody waits for the libraries."""
        if self._popen is not None or self._code is not None or self._pid is not None or self._has_news():
            self.kill()
            self.wait()
        for stream in [self.stdin, self.stdout, self._errors, *([] if self._popen is not None else [self._status])]:
            with contextlib.suppress(OSError):  # a request that was not written completely
                stream.close()

    def _start(self, program: str, paths: Sequence[str] | None) -> None:
        self._popen = subprocess.Popen(
            python_command(program, *self.arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*ROOTS, *_paths_of_user()] if paths is None else paths)},
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self.stdin, self.stdout = self._popen.stdin, self._popen.stdout

    def _fork(self, program: str, paths: Sequence[str] | None, imports: Sequence[str]) -> None:
        request = {
            "program": program,
            "arguments": self.arguments,
            "paths": None if paths is None else list(paths),
            "first_paths": _paths_of_user(),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
        }
        (requests, stdin), (stdout, replies), (status, told) = os.pipe(), os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(stdin, "wb"), os.fdopen(stdout, "rb")
        self._status = os.fdopen(status, "rb", 0)
        try:
            with tempfile.TemporaryFile() as file:
                file.write(json.dumps(request).encode())
                file.seek(0)
                _ask_to_fork(imports, [file.fileno(), requests, replies, self._errors.fileno(), told])
        finally:
            for descriptor in (requests, replies, told):
                os.close(descriptor)

    def _pid_of_fork(self) -> int | None:
        """Waits until it is forked; None if the process that forks has ended."""
        if self._pid is None and (line := self._status.readline()):
            self._pid = int(line)
        return self._pid

    def _has_news(self) -> bool:
        """Whether a line of the status can be read."""
        return bool(select.select([self._status], [], [], 0)[0])


class _ForkServer:
    """A process that forks. A fork of the process that started it may ask it, too: requests need no answer here.

    Args:
        imports: What it imports.
        environment: What its libraries read of the environment.
    """

    def __init__(self, imports: Sequence[str], environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._pid = os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._popen = subprocess.Popen(
                python_command(SERVER, str(theirs.fileno()), *imports),
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # a Ctrl-C in the terminal is the exporter's, which then ends what it started
            )

    def ask(self, descriptors: Sequence[int]) -> bool:
        """Send a request; False if it has ended."""
        try:
            socket.send_fds(self._socket, [b"\n"], list(descriptors))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def end(self) -> None:
        """End it, if it is this process's; again does no harm. Processes that it forked go on."""
        self._socket.close()
        if self._pid == os.getpid():
            self._popen.kill()
            self._popen.wait()


#: What they have imported -> the servers of this process.
_servers: dict[tuple[str, ...], _ForkServer] = {}
_lock = threading.Lock()


def start_server(imports: Sequence[str] = TORCH) -> None:
    """Start to import what fresh processes will need, so that they need not wait for it."""
    if CAN_FORK:
        with _lock:
            _server(tuple(imports))


def _ask_to_fork(imports: Sequence[str], descriptors: Sequence[int]) -> None:
    """Send a request to the server. One is started if there is none, or the environment has changed."""
    with _lock:
        key = tuple(imports)
        if not _server(key).ask(descriptors):
            _servers.pop(key).end()
            _server(key).ask(descriptors)


def _server(imports: tuple[str, ...]) -> _ForkServer:
    environment = {name: value for name, value in os.environ.items() if name.startswith(READ_AT_IMPORT)}
    if imports in _servers and _servers[imports].environment != environment:
        _servers.pop(imports).end()
    if imports not in _servers:
        _servers[imports] = _ForkServer(imports, environment)
    return _servers[imports]


@atexit.register
def _end_servers() -> None:
    for server in _servers.values():
        server.end()


def _paths_of_user() -> list[str]:
    return list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
