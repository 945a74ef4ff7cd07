"""Backends: each runs one format of artifact. `open_artifact` picks the one for an artifact."""

from onward.backends.registry import RUNNERS, Backend, Threads, open_artifact, open_backend, torch_is_installed

__all__ = ["RUNNERS", "Backend", "Threads", "open_artifact", "open_backend", "torch_is_installed"]
