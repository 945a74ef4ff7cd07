"""Fork server: the program of a process that imports PyTorch and then forks once for each request.

A request is a message over a Unix socket: program, arguments, paths, working directory and environment as JSON, with
the file descriptors of standard input, output and errors, and one for the status. Two lines are written to the status:
the id of the process, and its exit code when it has ended. The server ends with its socket.
Importing this module loads no library.

Source: the fork server of multiprocessing, which in addition imports the user's `__main__` into each process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

__all__ = ["MAX_REQUEST_BYTES", "NUM_DESCRIPTORS", "main"]

#: Standard input, output, errors, and the status.
NUM_DESCRIPTORS = 4
MAX_REQUEST_BYTES = 1 << 20


def main(descriptor: int, modules: Sequence[str]) -> None:
    """Fork until the socket ends.

    Args:
        descriptor: The socket's.
        modules: Imported first. One that cannot be imported is left for the process that needs it.
    """
    requests = socket.socket(fileno=descriptor)
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a process that waits for a fork needs nobody to wait for it
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MAX_REQUEST_BYTES, NUM_DESCRIPTORS)
        if not message:
            return
        if not os.fork():
            requests.close()
            _fork_and_wait(json.loads(message), *descriptors)
        for item in descriptors:
            os.close(item)


def _fork_and_wait(request: Mapping[str, Any], *descriptors: int) -> NoReturn:
    """Be the process that forks another and writes its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = descriptors
    if not (child := os.fork()):
        os.close(status)
        _run(streams, **request)
    for stream in streams:
        os.close(stream)
    os.write(status, b"%d\n" % child)
    _, how = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # nobody wants to know any more
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(how))
    os._exit(0)


def _run(
    streams: Sequence[int],
    program: str,
    arguments: Sequence[str],
    paths: Sequence[str] | None,
    first_paths: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
) -> NoReturn:
    """Be the process that runs a program, as `python -c PROGRAM ARGUMENTS` does.

    Args:
        streams: Standard input, output and errors.
        program: Python code.
        arguments: `sys.argv[1:]` of it.
        paths: `sys.path`. Default: this process's, after `first_paths`.
        first_paths: The folders of PYTHONPATH.
        folder: The working directory.
        environment: The environment.
    """
    code = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = [*first_paths, *sys.path] if paths is None else paths
        sys.argv = ["-c", *arguments]
        importlib.invalidate_caches()
        exec(program, {"__name__": "__main__"})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # this process is a copy: an error must not go on in the server's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
