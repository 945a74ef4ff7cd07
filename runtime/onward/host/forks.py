"""Forks: let a child of a process that has opened a model end.

A forked child has none of its parent's threads, but onnxruntime (1.32) waits for them where a session is freed, and,
if its telemetry was on when it was imported, in the C library's exit. So a child that ends by `sys.exit` would wait for
ever: a worker of `gunicorn --preload` would never stop. Here the sessions that a child inherits are never freed in it.
Where telemetry may be on, because somebody wants it or has imported onnxruntime before Onward, the child's exit ends
the process at once, with the same exit code, before onnxruntime's turn comes. Python has finished by then: its exit
handlers have run and its files are flushed.

Source: on_exit(3), which calls what was registered last first; pthread_cond_destroy(3) and pthread_join(3), where a
child waits.
"""

from __future__ import annotations

import ctypes
import os
import warnings
import weakref

__all__ = ["let_children_end", "never_free_in_children"]

_sessions: weakref.WeakSet[object] = weakref.WeakSet()
_is_registered = False


def never_free_in_children(session: object) -> None:
    """Keep a session's memory in forked children, which share it with this process, until they end."""
    _sessions.add(session)


def let_children_end() -> None:
    """Prepare this process, once. Call it where onnxruntime is imported."""
    global _is_registered
    if _is_registered or not hasattr(os, "register_at_fork"):
        return
    _is_registered = True
    os.register_at_fork(after_in_child=_keep_sessions)
    if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
        return
    try:
        library = ctypes.CDLL(None)
        on_exit, end = library.on_exit, ctypes.cast(library._exit, ctypes.c_void_p)
    except (AttributeError, OSError):  # musl and macOS have no on_exit
        os.register_at_fork(after_in_child=_warn)
        return
    # the exit code is the first argument of what on_exit calls, and the only one that _exit takes
    os.register_at_fork(after_in_child=lambda: on_exit(end, None))


def _keep_sessions() -> None:
    for session in list(_sessions):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))


def _warn() -> None:
    warnings.warn(
        "this process was forked after onnxruntime was imported and may never end by itself. Import it after the fork, "
        "start processes with multiprocessing's `spawn`, or end this one with os._exit.",
        RuntimeWarning,
        stacklevel=2,
    )
