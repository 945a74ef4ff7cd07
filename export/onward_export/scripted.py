"""Scripted: modules and functions of TorchScript as Python can copy, trace and hand them over.

A ScriptModule takes no hooks, and its parameters are no `nn.Parameter`. Its graph as a function of its tensors has
neither limit, and it keeps its control flow. torch.export captures neither.
"""

from __future__ import annotations

import functools
import hashlib
import io
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from onward.errors import NotExportable, reason_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ScriptedCall", "UnscriptedModule", "saved", "unscripted"]


class ScriptedCall:
    """A function of TorchScript that takes the tensors of its module after its own inputs.

    Args:
        saved: What `torch.jit.save` wrote: a module in eval mode, or a function.

    Source: torch.jit, `freeze`; torch._C, `_jit_pass_lower_graph`, `_create_function_from_graph`.
    """

    def __init__(self, saved: bytes) -> None:
        self.saved = saved
        module: Any = torch.jit.load(io.BytesIO(saved))  # type: ignore[no-untyped-call]
        if getattr(module, "training", None) is not None:  # a frozen module has no mode
            module = torch.jit.freeze(module.eval(), optimize_numerics=False)
        compiled: Any = torch._C  # its annotations lack much of this
        graph, tensors = compiled._jit_pass_lower_graph(module.inlined_graph, module._c)
        self.tensors: list[Tensor] = [tensor.detach() for tensor in tensors]
        for node in graph.findAllNodes("prim::Constant"):
            if node.hasAttribute("value") and node.kindOf("value") == "t":
                self.tensors.append(node.t("value").detach())
                node.output().replaceAllUsesWith(graph.addInput())
        compiled._jit_pass_erase_shape_information(graph)
        # another script has another name in a file that holds both
        name = f"__torch__.onward_{hashlib.sha256(saved).hexdigest()[:16]}"
        self._function = compiled._create_function_from_graph(name, graph)

    def __call__(self, *inputs: Any) -> Any:
        """Inputs of the function, and its tensors."""
        return self._function(*inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type[ScriptedCall], tuple[bytes]]:
        return ScriptedCall, (self.saved,)


class UnscriptedModule(nn.Module):
    """A ScriptModule as a module of Python, with the same names of weights.

    Args:
        script: In eval mode; it is not changed.

    Raises:
        NotExportable: It cannot be frozen.
    """

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        try:
            self._call = ScriptedCall(saved(script))
        except RuntimeError as error:
            raise NotExportable(
                f"the scripted module {script.original_name} cannot be frozen (`torch.jit.freeze`): "
                f"{reason_of(error)}. Export the module from which it was made."
            ) from error
        parameters = dict(script.named_parameters())
        state = parameters | dict(script.named_buffers())
        self._names: list[str] = []
        for index, tensor in enumerate(self._call.tensors):
            name = next((name for name, item in state.items() if _is_same(item, tensor)), None)
            state.pop(name or "", None)
            self._names.append(name or f"constant_{index}")
            _register(self, self._names[-1], tensor.clone(), name in parameters, is_persistent=name is not None)

    def forward(self, *inputs: Any) -> Any:
        """What the script takes and gives."""
        return self._call(*inputs, *(functools.reduce(getattr, name.split("."), self) for name in self._names))


def saved(script: torch.jit.ScriptModule | torch.jit.ScriptFunction[Any, Any]) -> bytes:
    """A script as bytes."""
    data = io.BytesIO()
    torch.jit.save(script, data)
    return data.getvalue()


def unscripted(network: nn.Module) -> nn.Module:
    """The network with every ScriptModule in it as a module of Python."""
    if isinstance(network, torch.jit.ScriptModule):
        return UnscriptedModule(network)
    for name, child in network.named_children():
        network._modules[name] = unscripted(child)
    return network


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _register(module: nn.Module, name: str, tensor: Tensor, is_parameter: bool, *, is_persistent: bool) -> None:
    *path, last = name.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    if is_parameter:
        module.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
    else:
        module.register_buffer(last, tensor, persistent=is_persistent)
