"""FrozenModule: a module that `torch.compile` compiles with its weights as constants, anew for each batch size.

Only the backend `torch-compile` imports this module, because importing Inductor takes time.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import torch
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from onward.errors import BackendError, reason_of

__all__ = ["FrozenModule"]

Module = Callable[..., tuple[torch.Tensor, ...]]


class FrozenModule:
    """Compiles a module at the first batch of each size, which takes seconds, and runs the compiled code.

    Call it where no gradients are recorded: Inductor freezes weights only there.

    Args:
        module: Takes tensors and returns a tuple of tensors. Its weights must not change afterwards.
        device: The device that the module is on.

    Raises:
        BackendError: There is no C++ compiler here, and code for the processor needs one.

    Source: PyTorch, `torch.compile`; `torch._inductor.config.freezing`.
    """

    def __init__(self, module: torch.nn.Module, device: torch.device) -> None:
        if device.type == "cpu":
            _check_compiler()
        self.module = module
        self._by_shapes: dict[tuple[torch.Size, ...], Module] = {}
        self._lock = threading.Lock()

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run one batch; the first batch of each shape is compiled for.

        Raises:
            BackendError: The module cannot be compiled.
        """
        shapes = tuple(tensor.shape for tensor in tensors)
        compiled = self._by_shapes.get(shapes)
        if compiled is None:
            with self._lock:
                compiled = self._by_shapes.get(shapes) or self._compile(tensors)
                self._by_shapes[shapes] = compiled
        return compiled(*tensors)

    def _compile(self, tensors: tuple[torch.Tensor, ...]) -> Module:
        """Copy the module's code and compile the copy by running it once; the weights are not copied.

        The copy is needed because PyTorch compiles one piece of code for a few shapes only, and then runs it eagerly
        without saying so. Freezing is set around the run and not in `torch.compile`'s options: those reach only
        Inductor, and Dynamo, which must mark the weights as constants first, would not see it.
        """
        assert isinstance(self.module, torch.fx.GraphModule)
        code = torch.fx.GraphModule(self.module, self.module.graph)
        compiled: Module = torch.compile(code, dynamic=False, fullgraph=True)
        try:
            # the compiler's remarks on a graph that it compiles all the same; they do not concern the caller
            with warnings.catch_warnings(), torch._inductor.config.patch(freezing=True):
                warnings.simplefilter("ignore")
                compiled(*tensors)
        except TorchDynamoException as error:
            raise BackendError(f"torch.compile cannot compile the model: {_reason(error)}") from error
        return compiled


def _reason(error: TorchDynamoException) -> str:
    """Inductor's own reason: the first line of Dynamo's message only says that Inductor has one."""
    inner = getattr(error, "inner_exception", error)
    if isinstance(inner, ModuleNotFoundError):
        return f"it needs the package {inner.name}, which is not installed here: `pip install {inner.name}`"
    return reason_of(inner)


def _check_compiler() -> None:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise BackendError(
            "the backend 'torch-compile' needs a C++ compiler, and there is none here: install g++ or clang, or name "
            "one in the environment variable CXX. The backend 'torch' needs none."
        ) from error
