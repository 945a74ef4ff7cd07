"""Widening: every float of a run in a wider type, whatever casts `forward` contains.

In float64 it gives the reference: `x.float()` in a float32 model is a cast to the model's own type, and the mathematics
have none. In float32 it gives the outputs that the model would have without its casts to half precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from onward_export.place import Place
from onward_export.reference.operator_trace import OperatorMode, here

__all__ = ["Cast", "Widening", "default_dtype", "widened"]

#: float8 and float16 types, by name, because older versions of PyTorch lack some.
HALVES = tuple(
    dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize < 4
)
#: To which type each narrower one is widened, by the type of the run.
WIDER: dict[torch.dtype, dict[torch.dtype, torch.dtype]] = {
    torch.float32: dict.fromkeys(HALVES, torch.float32) | {torch.complex32: torch.complex64},
    torch.float64: dict.fromkeys((*HALVES, torch.float32), torch.float64)
    | dict.fromkeys((torch.complex32, torch.complex64), torch.complex128),
}


@dataclass(frozen=True)
class Cast:
    """A place where `forward`, or an autocast, asks for a narrower type or brings a tensor of one."""

    place: Place
    dtype: str


class Widening(OperatorMode):
    """Widens dtypes and tensors in the arguments of every operator.

    A narrower tensor that comes from outside, such as a constant of the module, is replaced by one wider twin for all
    of the run, so that what an operator writes into it is read again.

    Args:
        dtype: The type of the run, float32 or float64.
        path: The modules that are running, as `tracked_modules` keeps them.
    """

    def __init__(self, dtype: torch.dtype, path: Sequence[str] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.wider = WIDER[dtype]
        self.path = path
        #: The casts that were widened.
        self.casts: list[Cast] = []
        #: Whether an operator computed in a narrower type all the same, and another one read its result.
        self.is_incomplete = False
        self._twins = WeakTensorKeyDictionary()
        self._results = WeakTensorKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # a view as another type reads bits, so its type stays
        dtypes = {} if func is torch.ops.aten.view.dtype else self.wider
        found: list[torch.dtype] = []

        def widen(item: Any) -> Any:
            if isinstance(item, torch.dtype) and item in dtypes:
                found.append(item)
                return dtypes[item]
            if isinstance(item, Tensor) and item.dtype in self.wider:
                found.append(item.dtype)
                return self._twin(item)
            return item

        args, kwargs = tree_map(widen, (args, kwargs or {}))
        if found:
            self.casts.append(Cast(here(func, self.path), str(found[0]).removeprefix("torch.")))
        result = self.call(func, args, kwargs)
        for item in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(item, Tensor) and item.dtype in self.wider:
                self._results[item] = True
        return result

    def _twin(self, tensor: Tensor) -> Tensor:
        self.is_incomplete = self.is_incomplete or tensor in self._results
        if tensor not in self._twins:
            self._twins[tensor] = tensor.to(self.wider[tensor.dtype])
        twin: Tensor = self._twins[tensor]
        return twin


@contextmanager
def widened(dtype: torch.dtype, path: Sequence[str] = ()) -> Iterator[Widening]:
    """Run what is inside in a wider type: new tensors, casts and constants."""
    with default_dtype(dtype), Widening(dtype, path) as widening:
        yield widening


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Give tensors that are created inside another dtype."""
    # tensors created inside `forward` have the default dtype
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
