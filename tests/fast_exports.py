"""Faster exports for tests: PyTorch's tables of operators are built once."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
        with one_table_of_operators(), one_look_at_operators():
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
