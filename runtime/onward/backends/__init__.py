"""Backends: each runs artifacts of one format. `open_artifact` opens one with the preferred backend of its format.

`Backend`, what all of them can do, is in `onward.backends.backend`. It needs numpy; this package does not.
"""

from onward.backends.registry import (
    BACKENDS,
    BackendSpec,
    Threads,
    backend_for,
    backends_of,
    is_installed,
    open_artifact,
    open_backend,
    unavailable_reason,
)

__all__ = [
    "BACKENDS",
    "BackendSpec",
    "Threads",
    "backend_for",
    "backends_of",
    "is_installed",
    "open_artifact",
    "open_backend",
    "unavailable_reason",
]
