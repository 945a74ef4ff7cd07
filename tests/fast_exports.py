"""Faster exports for tests: PyTorch's table of operators is built once, and TorchScript is traced in forks."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest

from tests.forks import CAN_FORK, TracedByFork, open_by_fork

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
        with one_table_of_operators(), by_forks() if CAN_FORK else nullcontext():
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
def by_forks() -> Iterator[None]:
    """Exports of this process trace TorchScript and open artifacts in forks of processes that have imported PyTorch."""
    import onward_export.formats.torchscript
    import onward_export.opening.process

    opening = SimpleNamespace(Popen=open_by_fork, PIPE=subprocess.PIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onward_export.formats.torchscript, "subprocess", SimpleNamespace(Popen=TracedByFork, PIPE=None))
        patch.setattr(onward_export.opening.process, "subprocess", opening)
        yield
