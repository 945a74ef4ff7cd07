"""Fork server: the program of a process that imports libraries and then forks once for each request.

A request is a byte over a Unix socket with five file descriptors: a file with program, arguments, paths, working
directory and environment as JSON; standard input, output and errors; and the status. Two lines are written to the
status: the id of the process, and its exit code when it has ended. The server ends with its socket.
Importing this module loads no library.

Source: the fork server of multiprocessing, which in addition imports the user's `__main__` into each process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import NoReturn

__all__ = ["main"]

#: The request, standard input, output and errors, and the status.
NUM_DESCRIPTORS = 5


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
    gc.freeze()  # forks do not look for garbage in what they share, which would copy it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a process that waits for a fork needs nobody to wait for it
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 1, NUM_DESCRIPTORS)
        if not message:
            return
        if not os.fork():
            try:
                requests.close()
                _fork_and_wait(*descriptors)
            finally:  # this process is a copy: an error must not go on in the server's code
                os._exit(1)
        for item in descriptors:
            os.close(item)


def _fork_and_wait(file: int, *descriptors: int) -> None:
    """Be the process that forks another and writes its status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, status = descriptors
    if _is_unread(status):
        return
    if not (child := os.fork()):
        os.close(status)
        with open(file, "rb") as request:
            _run(streams, **json.load(request))
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):  # nobody wants to know any more
        os.write(status, b"%d\n" % child)
    _, how = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(how))


def _is_unread(pipe: int) -> bool:
    """Whether nobody can read from a pipe any more."""
    poll = select.poll()
    poll.register(pipe, 0)
    return bool(poll.poll(0))


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
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
