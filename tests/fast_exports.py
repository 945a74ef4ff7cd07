"""Faster exports for tests: PyTorch's tables of operators are built once, and ONNX alone is opened in forks, too."""

from __future__ import annotations

import atexit
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from onward_export.opening.process import PROGRAM
from onward_export.processes import FreshProcess, fresh_process

__all__ = ["fast_exports"]


@contextmanager
def fast_exports() -> Iterator[None]:
    """Exports of this process run faster meanwhile, with the same results."""
    global _are_fast
    if _are_fast:
        yield
        return
    _are_fast = True
    try:
        with one_table_of_operators(), one_look_at_operators(), no_annotations(), onnx_by_forks():
            yield
    finally:
        _are_fast = False


_are_fast = False


@contextmanager
def one_table_of_operators() -> Iterator[None]:
    """Build PyTorch's table of ONNX operators once a process; it builds one an export, in half of a small one's time.

    The table comes from the installed packages, torchvision's part once that is imported; every export gets a copy, to
    which it may add.
    Source: torch.onnx._internal.exporter._registration, `ONNXRegistry.from_torchlib`.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from_torchlib = ONNXRegistry.from_torchlib

    @functools.cache
    def build(with_torchvision: bool, **options: int) -> ONNXRegistry:
        return from_torchlib(**options)

    def copy_of_it(**options: int) -> ONNXRegistry:
        registry, copied = build("torchvision" in sys.modules, **options), ONNXRegistry()
        copied._opset_version = registry.opset_version
        copied.functions = {name: list(functions) for name, functions in registry.functions.items()}
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copy_of_it))
        yield


@contextmanager
def one_look_at_operators() -> Iterator[None]:
    """Make names of PyTorch's composite operators when new ones are registered; PyTorch makes all of them, often.

    Source: torch._export.utils, `_materialize_cpp_cia_ops`: it calls `getattr` for each, and keeps nothing else.
    """
    from torch import _C
    from torch._export import utils

    materialize, known = utils._materialize_cpp_cia_ops, list[str]()

    def materialize_if_new() -> None:
        registered = _C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if registered != known:
            materialize()
            known[:] = registered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_materialize_cpp_cia_ops", materialize_if_new)
        yield


class _Callable(type):
    """Of `Named`: what `isinstance` says of it is what it says of `collections.abc.Callable`."""

    def __instancecheck__(cls, item: object) -> bool:
        return callable(item)

    def __getitem__(cls, item: object) -> object:
        return cls


class Named(metaclass=_Callable):
    """`Callable` in annotations, which costs nothing there."""


@contextmanager
def no_annotations() -> Iterator[None]:
    """Python computes the annotations of `inner` in `py_impl` whenever that is called: 11,000 times an export.

    Source: torch._ops, `OperatorBase.py_impl`.
    """
    import torch._ops

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._ops, "Callable", Named)
        yield


class OnnxByFork(FreshProcess):
    """Where the exporter starts a new process, for ONNX alone, a fork of one that has imported onnxruntime alone."""

    def _start(self, program: str, paths: Sequence[str] | None) -> None:
        if program != PROGRAM:
            super()._start(program, paths)
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fresh_process, "_ask_to_fork", _ask_onnx_server)
            self._fork(program, paths)


def _ask_onnx_server(message: bytes, descriptors: Sequence[int]) -> None:
    num_threads = os.environ.get("OMP_NUM_THREADS")
    if not _onnx_server(num_threads).ask(message, descriptors):
        _onnx_server.cache_clear()  # it had nothing to do for long
        _onnx_server(num_threads).ask(message, descriptors)


@functools.cache
def _onnx_server(num_threads: str | None) -> fresh_process._ForkServer:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fresh_process, "IMPORTED", ("onward.backends.onnxruntime_backend", "onward.parity"))
        server = fresh_process._ForkServer({})
    atexit.register(server.end)
    return server


@contextmanager
def onnx_by_forks() -> Iterator[None]:
    """Importing onnxruntime takes half of the time of a small export to ONNX."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.platform == "linux":
            patch.setattr("onward_export.opening.process.FreshProcess", OnnxByFork)
        yield
