"""Capture: what helps torch.export while it runs a network, and where the network was when it could not go on.

- `.item()` of what depends on weights alone gives its value; torch.export would call it control flow by data.
- `torch.cdist` is written out: the operator chooses its method by the size of the batch.
- The place at which the network fixes a free size is noted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_iter, tree_leaves, tree_map_only

from onward_export.place import Place, frame_of_network, place_of_line

__all__ = ["Capture"]

#: Functions that give values of Python, which a captured program cannot compute.
READERS = frozenset(
    {
        Tensor.item, Tensor.__float__, Tensor.__int__, Tensor.__bool__, Tensor.__index__, Tensor.tolist, Tensor.numpy,
        Tensor.is_nonzero, torch.is_nonzero, Tensor.equal, torch.equal, Tensor.allclose, torch.allclose,
    }
)  # fmt: skip


class Capture(TorchFunctionMode):
    """Watches the functions that a module calls while torch.export runs it.

    Args:
        module: The module that is exported.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        # torch.export puts fake tensors in their place for a while
        self.real = dict(_state(module))
        self.made: dict[int, tuple[Any, _Call | None]] = {}
        self._last: _Line | None = None
        self._first_condition: _Line | None = None
        self._num_conditions = 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_dynamo_compiling():  # `torch.cond` compiles its branches, and this function with them
            return function(*args, **kwargs)
        if getattr(function, "__name__", "") in ("__get__", "__set__"):  # an attribute such as `shape`
            return function(*args, **kwargs)
        self._note_line(function)
        if function is Tensor.__iter__:
            with self:
                return iter(torch.unbind(args[0], 0))
        if function in READERS:
            try:
                with _without_modes():
                    return function(*self._known(args), **self._known(kwargs))
            except _Unknown:
                pass
        elif function is Tensor.__getitem__:
            args = (args[0], self._with_known_slices(args[1]))
        if function is torch.cdist:
            with self:
                return distance(*args, **kwargs)
        self._note_condition(args)
        result = function(*args, **kwargs)
        self._note_condition((result, args))
        self._remember(function, args, kwargs, result)
        return result

    @property
    def last(self) -> Place:
        """Where the last function was called."""
        return self._place(self._last)

    @property
    def first_condition(self) -> Place:
        """Where the first function was called that needs the batch or another free size to be of certain sizes."""
        return self._place(self._first_condition)

    def _place(self, line: _Line | None) -> Place:
        return (
            Place() if line is None else place_of_line(line.code, line.number, line.owner, self.module, line.operator)
        )

    def _note_line(self, function: Any) -> None:
        frame = frame_of_network(sys._getframe(2))
        if frame is not None:
            self._last = _Line(frame.f_code, frame.f_lineno, frame.f_locals.get("self"), _name(function))

    def _note_condition(self, values: Any) -> None:
        """Note the place of the first function after which a free size is under more conditions than before."""
        shapes = next(filter(None, map(_shapes_of, tree_iter(values))), None)
        if shapes is None:
            return
        num_conditions = len(shapes.guards) + len(shapes.replacements)
        if num_conditions > self._num_conditions > 0 and self._first_condition is None:
            self._first_condition = self._last
        self._num_conditions = max(num_conditions, 1)

    def _remember(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if _is_in_place(function) or "out" in kwargs:
            self._forget(args[0] if "out" not in kwargs else kwargs["out"])
            return
        are_several = isinstance(result, (tuple, list))
        for index, item in enumerate(result if are_several else [result]):
            if isinstance(item, Tensor) and not any(item is given for given in args):
                self.made[id(item)] = item, _Call(function, args, kwargs, index if are_several else None)

    def _forget(self, changed: Any) -> None:
        """A tensor was changed in place: what it may be a view of is unknown, too."""
        for item in tree_leaves(changed):
            while isinstance(item, Tensor):
                _, call = self.made.get(id(item), (None, None))
                self.made[id(item)] = item, None
                item = call.args[0] if call is not None and call.args else None

    def _known(self, values: Any) -> Any:
        """The values with real tensors; raises `_Unknown` where one depends on the inputs."""
        if any(isinstance(item, torch.SymInt) for item in tree_leaves(values)):
            raise _Unknown
        return tree_map_only(Tensor, self._value, values)

    def _value(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self.made:
            _, call = self.made[id(tensor)]
            if call is None:
                raise _Unknown
            value: Any = call.function(*self._known(call.args), **self._known(call.kwargs))
            return value if call.index is None else value[call.index]  # type: ignore[no-any-return]
        for name, item in _state(self.module):
            if item is tensor:
                return self.real[name]
        if type(tensor) in (Tensor, nn.Parameter) and not isinstance(tensor, FakeTensor):
            return tensor
        raise _Unknown

    def _with_known_slices(self, index: Any) -> Any:
        """`x[:, a:b]` with tensors `a` and `b`: PyTorch reads them without asking this mode."""

        def read(bound: Any) -> Any:
            try:
                with _without_modes():
                    return int(self._known(bound)) if isinstance(bound, Tensor) else bound
            except _Unknown:
                return bound

        parts = index if isinstance(index, tuple) else (index,)
        known = tuple(
            slice(read(part.start), read(part.stop), read(part.step)) if isinstance(part, slice) else part
            for part in parts
        )
        return known if isinstance(index, tuple) else known[0]


class _Unknown(Exception):
    """A value that depends on the inputs."""


@dataclass(frozen=True)
class _Line:
    code: CodeType
    number: int
    owner: Any
    operator: str


@dataclass(frozen=True)
class _Call:
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    index: int | None = None


def distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """`torch.cdist`, by the definition: `(…, rows, columns)` and `(…, others, columns)` -> `(…, rows, others)`."""
    apart: Tensor = torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), ord=p, dim=-1)
    return apart


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


@contextmanager
def _without_modes() -> Iterator[None]:
    """Compute with real tensors while torch.export runs the module on fake ones."""
    with _disable_current_modes(), torch._C.DisableTorchFunction(), torch.no_grad():
        yield


def _is_in_place(function: Any) -> bool:
    name = getattr(function, "__name__", "")
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")


def _shapes_of(value: Any) -> ShapeEnv | None:
    sizes = [value] if isinstance(value, torch.SymInt) else list(value.shape) if isinstance(value, Tensor) else []
    return next((size.node.shape_env for size in sizes if isinstance(size, torch.SymInt)), None)


def _name(function: Any) -> str:
    return str(resolve_name(function) or getattr(function, "__name__", function))
