""".pt2, the exported program, through PyTorch: its module is what PyTorch runs eagerly, or compiles."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.backends.device import can_share, open_device, to_numpy, to_tensors
from onward.backends.frozen_module import FrozenModule
from onward.backends.providers import AnyProvider
from onward.backends.registry import Threads
from onward.errors import BackendError
from onward.feed import Feed, check_feed
from onward.signature import OUTPUTS
from onward.tensor_signature import AnySignature

__all__ = ["ExportedProgramBackend"]


class ExportedProgramBackend:
    """Runs model.pt2.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives.
        device: `cpu` or `cuda`, or a request that has one of them.
        threads: Of one inference; PyTorch has one setting for the whole process.
        runner: `eager`, `module`, `channels-last` or `compiled`; see `RUNNERS`.

    Raises:
        BackendError: PyTorch cannot open the file; the device is missing, or the compiler that `compiled` needs.

    Source: torch.export, `load`; `ExportedProgram.module`.
    """

    placement = None
    outputs = OUTPUTS

    def __init__(
        self,
        data: bytes,
        *,
        signature: AnySignature,
        device: AnyProvider = "cpu",
        threads: Threads | None = None,
        runner: str = "eager",
    ) -> None:
        self.signature = signature
        self.inputs = tuple(item.name for item in signature.inputs)
        self.runner = runner
        self.shared = can_share(signature)
        self.device = open_device(device, threads or Threads())
        try:
            module = MODULES[runner](torch.export.load(io.BytesIO(data))).to(self.device)
        except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
            raise BackendError(f"PyTorch cannot open the .pt2 file: {error}") from error
        self.module = FrozenModule(module, self.device) if runner == "compiled" else module

    @property
    def name(self) -> str:
        """`pt2`, what runs it if that is not `eager`, and the device."""
        runner = "" if self.runner == "eager" else f" {self.runner}"
        return f"pt2{runner} ({self.device.type.upper()})"

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        return dict(zip(self.outputs, self.infer(check_feed(feed, self.signature)), strict=True))

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; float32 arrays in the order of `outputs`."""
        with torch.inference_mode():
            return to_numpy(self.module(*to_tensors(arrays, self.device, shared=self.shared)))


def _as_loaded(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """What someone has who loads the file: guards on the input, assertions, dropout that does nothing."""
    return program.module()


def _eager(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    """The program's module without what eager PyTorch does not have: input guards, assertions, dead dropout.

    They took more than half of the time of a small network at batch 1 (157 µs against 67 µs for the module itself;
    77 µs without them). `check_feed` has looked at the input by then.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, torch.fx.GraphModule)
    module._forward_pre_hooks.clear()
    for node in list(module.graph.nodes):
        match str(node.target):
            case "aten._assert_tensor_metadata.default":
                module.graph.erase_node(node)
            case "aten.dropout.default" if node.args[2] is False:
                node.replace_all_uses_with(node.args[0])
                module.graph.erase_node(node)
    module.graph.set_codegen(torch.fx.graph.CodeGen())  # no trees around one tensor in and two out
    module.recompile()
    return module


def _channels_last(program: torch.export.ExportedProgram) -> torch.fx.GraphModule:
    """Eager, with the channels of weights and activations last in memory.

    From the first convolution on the layout goes from operator to operator. Before it, the graph's cast to float32
    asks for contiguous memory: pixels come with their channels last, and keep them so.

    Source: PyTorch, tutorial "Channels Last Memory Format in PyTorch".
    """
    module = _eager(program).to(memory_format=torch.channels_last)
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:  # a view there is of other strides, which only reshape takes
            node.target = torch.ops.aten.reshape.default
        node.args = tuple(torch.preserve_format if item is torch.contiguous_format else item for item in node.args)
    module.recompile()
    return module


#: Runner -> the program's module for it.
MODULES: Mapping[str, Callable[[torch.export.ExportedProgram], torch.nn.Module]] = {
    "eager": _eager,
    "module": _as_loaded,
    "channels-last": _channels_last,
    "compiled": _eager,
}
