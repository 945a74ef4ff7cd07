"""Faster exports for tests: PyTorch's tables of operators are built once, and what nobody reads is not."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

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
        with one_table_of_operators(), one_look_at_operators(), unread_annotations():
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
    """Look for PyTorch's composite operators when new ones are registered; PyTorch looks for all of them, often.

    Source: torch._export.utils, `_collect_all_valid_cia_ops_for_namespace` and `_materialize_cpp_cia_ops`.
    """
    from torch import _C, ops
    from torch._export import utils

    materialize, collect = utils._materialize_cpp_cia_ops, utils._collect_all_valid_cia_ops_for_namespace
    known, found = list[str](), dict[tuple[str, ...], set[Any]]()

    def collect_if_new(namespace: Any) -> set[Any]:
        registered = _C._dispatch_get_registrations_for_dispatch_key("CompositeImplicitAutograd")
        if registered != known:
            materialize()
            known[:] = registered
        name = getattr(namespace, "name", namespace)  # PyTorch 2.6 calls it with the name
        names = (name, *getattr(ops, name))
        if names not in found:
            found[names] = collect(namespace)
        return found[names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_materialize_cpp_cia_ops", lambda: None)
        patch.setattr(utils, "_collect_all_valid_cia_ops_for_namespace", collect_if_new)
        yield


@contextmanager
def unread_annotations() -> Iterator[None]:
    """Register implementations of operators without annotations, which take most of the time and which nobody reads.

    Source: torch._ops, `OperatorBase.py_impl`: it defines a function each time, a thousand times an export.
    """
    from torch import _ops

    class Unread:
        def __getitem__(self, item: object) -> None:
            return None

    register = FunctionType(_ops.OperatorBase.py_impl.__code__, vars(_ops) | {"Callable": Unread()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_ops.OperatorBase, "py_impl", register)
        yield
