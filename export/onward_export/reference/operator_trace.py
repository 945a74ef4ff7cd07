"""Operator trace: the outputs of every operator inside a module during one forward pass, and its submodule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Operation", "first_difference", "trace_operators"]


@dataclass(frozen=True)
class Operation:
    """One call of an operator.

    Args:
        name: e.g. `aten.native_dropout`.
        module: Path of the submodule that called it, e.g. `model.layers.3`; empty for the top module.
        outputs: Copies of its floating-point outputs.
    """

    name: str
    module: str
    outputs: tuple[Tensor, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.module or 'the top module'}"


def trace_operators(module: nn.Module, *inputs: Tensor) -> list[Operation]:
    """Run a module once and list its operator calls in order."""
    path: list[str] = []
    recorder = _Recorder(path)
    with _tracking(module, path), recorder:
        module(*inputs)
    return recorder.operations


def first_difference(
    ones: Sequence[Operation], others: Sequence[Operation], differs: Callable[[Tensor, Tensor], bool]
) -> Operation | None:
    """The first operator of two runs of one module whose outputs differ."""
    for one, other in zip(ones, others, strict=False):
        if one.name != other.name or len(one.outputs) != len(other.outputs):
            return one
        if any(differs(a, b) for a, b in zip(one.outputs, other.outputs, strict=True)):
            return one
    return None


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, path: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        floats = tuple(
            leaf.detach().clone()
            for leaf in tree_leaves(result)
            if isinstance(leaf, Tensor) and leaf.is_floating_point()
        )
        name = func.overloadpacket._qualified_op_name.replace("::", ".")
        self.operations.append(Operation(name, self.path[-1] if self.path else "", floats))
        return result


@contextmanager
def _tracking(module: nn.Module, path: list[str]) -> Iterator[None]:
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
