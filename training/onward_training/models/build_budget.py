"""Build budget: a network whose arguments come from a file takes no more memory than its weights in the file explain.

Arguments of a few bytes can ask for layers of gigabytes. The tensors that building creates are counted before their
memory is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from onward.errors import CheckpointError
from onward.limits import allowed_bytes, mebibytes

__all__ = ["BuildBudget"]

#: Building creates more tensors than there are weights: masks, and what initialisation computes with.
FREE_TENSORS = 10_000
MAX_TENSORS_PER_WEIGHT = 16


class BuildBudget(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, creating too many or too large tensors is a CheckpointError.

    Args:
        name: Of the network, for the message.
        arguments: Of the network, for the message.
        weights: The weights that it will hold.

    Source: torch, `torch.utils._python_dispatch.TorchDispatchMode`.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.name, self.arguments = name, str(dict(arguments))
        self.stated_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
        self.left_bytes = allowed_bytes(self.stated_bytes)
        self.left_tensors = FREE_TENSORS + MAX_TENSORS_PER_WEIGHT * len(weights)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count what an operator creates; what it changes or views is not new."""
        kwargs = dict(kwargs or {})
        schema = func._schema
        if any(value.alias_info is not None for value in schema.returns):
            return func(*args, **kwargs)
        if any(item.name == "device" for item in schema.arguments) and not any(isinstance(a, Tensor) for a in args):
            self._check(func(*args, **kwargs | {"device": torch.device("meta")}))  # its size without its memory
        result = func(*args, **kwargs)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor):
                self._check(tensor)
                self.left_bytes -= _size_of(tensor)
                self.left_tensors -= 1
        return result

    def _check(self, tensor: Tensor) -> None:
        if _size_of(tensor) <= self.left_bytes and self.left_tensors > 0:
            return
        shown = self.arguments if len(self.arguments) < 200 else f"{self.arguments[:200]} …"
        raise CheckpointError(
            f"the network {self.name} with the arguments {shown} takes far more memory than its weights in the file, "
            f"{mebibytes(self.stated_bytes)}: another network's arguments, or a damaged file. Give the right ones with "
            f"--model-args, or save the network again."
        )


def _size_of(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
