"""Operator trace: the outputs of every operator inside a module during one forward pass, and its submodule."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator, _higher_order_ops
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from onward_export.place import Place

__all__ = ["Operation", "OperatorMode", "first_difference", "here", "trace_operators", "tracked_modules"]

TORCH = str(Path(torch.__file__).parent)
ONWARD = str(Path(__file__).parents[1])


def here(func: Any, path: Sequence[str]) -> Place:
    """The place of an operator that a dispatch mode handles now.

    Args:
        func: The operator.
        path: The modules that are running, the innermost last, as `tracked_modules` keeps them.
    """
    packet = getattr(func, "overloadpacket", None)  # `torch.cond` and the like have none
    name = packet._qualified_op_name.replace("::", ".") if packet else f"torch.{func.name()}"
    return Place(name, (path[-1] if path else "") or "the top module", _line_of_code())


def _line_of_code() -> str:
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(ONWARD):
        frame = frame.f_back
    while frame.f_back is not None and frame.f_code.co_filename.startswith((TORCH, "<")):
        frame = frame.f_back
    path, line = frame.f_code.co_filename, frame.f_lineno
    if path.startswith(ONWARD) or frame.f_back is None:
        return ""
    return f"{Path(path).name}:{line}, in {frame.f_code.co_name}: {linecache.getline(path, line).strip()}"


@dataclass(frozen=True)
class Operation:
    """One call of an operator.

    Args:
        place: Operator, module and line of code.
        outputs: Copies of its floating-point outputs.
    """

    place: Place
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        return self.place.as_subject()


def trace_operators(module: nn.Module, *inputs: Tensor) -> list[Operation]:
    """Run a module once and list its operator calls in order."""
    path: list[str] = []
    recorder = _Recorder(path)
    with tracked_modules(module, path), recorder:
        module(*inputs)
    return recorder.operations


def first_difference(
    ones: Sequence[Operation], others: Sequence[Operation], differs: Callable[[Tensor, Tensor], bool]
) -> Operation | None:
    """The first operator of two runs of one module whose outputs differ."""
    for one, other in zip(ones, others, strict=False):
        if one.place.operator != other.place.operator or len(one.outputs) != len(other.outputs):
            return one
        if any(differs(a, b) for a, b in zip(one.outputs, other.outputs, strict=True)):
            return one
    return None


class OperatorMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that also handles the operators in the branches of `torch.cond` and the like."""

    supports_higher_order_operators = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()  # type: ignore[no-untyped-call]
        if not hasattr(TorchDispatchMode, "supports_higher_order_operators"):  # PyTorch 2.6 asks for each of them
            for operator in _higher_order_ops.values():
                operator.py_impl(cls)(partial(_dispatch, operator))

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call an operator."""
        if isinstance(func, HigherOrderOperator):
            args, kwargs = tree_map(self._handled, (args, kwargs))
        return func(*args, **kwargs)

    def _handled(self, item: Any) -> Any:
        if not callable(item):
            return item

        def call(*args: Any) -> Any:
            with self:
                return item(*args)

        return call


def _dispatch(operator: HigherOrderOperator, mode: OperatorMode, *args: Any, **kwargs: Any) -> Any:
    return mode.__torch_dispatch__(operator, (), args, kwargs)  # type: ignore[no-untyped-call]


class _Recorder(OperatorMode):
    def __init__(self, path: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self.call(func, args, kwargs or {})
        floats = tuple(
            leaf.detach().clone()
            for leaf in tree_leaves(result)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
        )
        self.operations.append(Operation(here(func, self.path), floats))
        return result


@contextmanager
def tracked_modules(module: nn.Module, path: list[str]) -> Iterator[None]:
    """Keep the paths of the submodules that are running in `path`, the innermost last."""

    def enter(name: str) -> Callable[..., None]:
        return lambda *_: path.append(name)

    def leave(*_: object) -> None:
        path.pop()

    handles = []
    for name, submodule in module.named_modules():
        handles.append(submodule.register_forward_pre_hook(enter(name), prepend=True))
        handles.append(submodule.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
