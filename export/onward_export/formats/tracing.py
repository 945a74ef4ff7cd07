"""Tracing: the program of the process that makes TorchScript of a module that was handed over."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.autograd.function import Function, FunctionCtx

from onward.backends.torch_backend import torchscript_is_meant

__all__ = ["main"]


def main(handed_over: str, path: str, how: str) -> None:
    """Write TorchScript.

    Args:
        handed_over: A file with the module and its example, pickled.
        path: The file to write.
        how: `trace` or `script`.
    """
    torch.set_num_threads(1)  # the exporter computes meanwhile; threads that wait for each other would slow down both
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what `forward` prints was printed before, and nobody reads it here
    deployable, example = pickle.loads(Path(handed_over).read_bytes())
    with torchscript_is_meant(), torch.no_grad(), _autograd_functions_run_forward():
        if how == "script":  # the network has the control flow; the normalisation around it is traced
            deployable.model = torch.jit.script(deployable.model)
        deployable(*example)  # what `forward` imports and caches when it first runs would be traced, too
        # the gate checks what was traced, with other inputs and in float64
        traced = torch.jit.trace(deployable, example, check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


@contextmanager
def _autograd_functions_run_forward() -> Iterator[None]:
    """An autograd function is what its `forward` computes: TorchScript can hold that, and not the function."""

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        if cls.setup_context is not Function.setup_context:
            return cls.forward(*args, **kwargs)
        return cls.forward(FunctionCtx(), *args, **kwargs)

    with mock.patch.object(Function, "apply", classmethod(apply)):
        yield
