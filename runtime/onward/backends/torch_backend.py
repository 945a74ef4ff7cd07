"""TorchScript and .pt2 through PyTorch, on the processor or on a GPU.

The module of a .pt2 program is also what eager PyTorch runs (docs/decisions/0006-pt2-is-eager.md), so a benchmark
against PyTorch needs no model code. TorchScript stays an artifact of Onward although torch 2.15 deprecates `torch.jit`:
C++ and mobile apps load it, and .pt2 stands beside it. The warnings are silenced in one place, here.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.backends.backend import Backend
from onward.backends.providers import CPU, CUDA, ProviderRequest
from onward.backends.registry import Threads
from onward.bundle.pt2_content import check_pt2
from onward.bundle.torchscript_content import check_torchscript
from onward.errors import BackendError, OnwardError, reason_of
from onward.signature import AnySignature, Signature

__all__ = ["ExportedProgramBackend", "TorchScriptBackend", "load_program", "torchscript_is_meant"]

#: A loaded model: it takes tensors and returns a tuple of tensors.
Module = Callable[..., tuple[torch.Tensor, ...]]


class _TorchBackend(Backend):
    """What both formats have in common: a module, a device, and tensors in and out.

    Args:
        data: The content of the file.
        signature: What the model takes and gives.
        request: Has `cpu` or `cuda`; the first of them that PyTorch finds here is the device.
        threads: How many threads one inference may use; PyTorch has one setting for the whole process.

    Raises:
        BackendError: PyTorch cannot open the file, or the device is missing.
        BundleError: The file says what no file of Onward says.
    """

    signature: AnySignature
    module: Module

    def __init__(self, *, signature: AnySignature, request: ProviderRequest, threads: Threads) -> None:
        self.signature = signature
        self.inputs = tuple(item.name for item in signature.inputs)
        self.outputs = signature.output_names
        self.shares_memory = _can_share_memory(signature)
        self.device = _open_device(request, threads)
        self.num_threads = torch.get_num_threads()

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; float32 arrays in the order of `outputs`."""
        with torch.inference_mode():
            return _to_numpy(self.module(*_to_tensors(arrays, self.device, shared=self.shares_memory)))


class TorchScriptBackend(_TorchBackend):
    """Runs a TorchScript artifact, frozen. Its arguments and errors are those of every backend of PyTorch.

    The file is checked before PyTorch reads it: it has only code and tensors that a network needs.

    Source: torch.jit, `load`, `freeze`.
    """

    def __init__(self, data: bytes, *, signature: AnySignature, request: ProviderRequest, threads: Threads) -> None:
        super().__init__(signature=signature, request=request, threads=threads)
        checked = check_torchscript(data)
        try:
            with torchscript_is_meant():
                module = torch.jit.load(io.BytesIO(checked), map_location=self.device)  # type: ignore[no-untyped-call]
                self.module = torch.jit.freeze(module.eval())
        except Exception as error:  # whatever PyTorch raises for what the check lets pass
            raise BackendError(f"PyTorch cannot open the TorchScript file: {reason_of(error)}") from error

    @property
    def name(self) -> str:
        """`torchscript` and the device."""
        return f"torchscript ({self.device.type.upper()})"


class ExportedProgramBackend(_TorchBackend):
    """Runs a .pt2 artifact. Its arguments and errors are those of every backend of PyTorch, and one more of each.

    The file is checked before PyTorch reads it: it has only operators and tensors that a network needs.

    Args:
        variant: `eager`, `loaded`, `channels-last` or `compiled`.

    Raises:
        BackendError: The compiler that `compiled` needs is missing.

    Source: torch.export, `load`; `ExportedProgram.module`.
    """

    def __init__(
        self, data: bytes, *, signature: AnySignature, request: ProviderRequest, threads: Threads, variant: str
    ) -> None:
        super().__init__(signature=signature, request=request, threads=threads)
        self.variant = variant
        checked = check_pt2(data)
        with _logged_reasons() as reasons:
            try:
                self.module = VARIANTS[variant](load_program(io.BytesIO(checked)), self.device)
            except OnwardError:
                raise
            except Exception as error:  # whatever PyTorch raises for what the check lets pass
                reason = next(iter(reasons), None) or reason_of(error)
                raise BackendError(f"PyTorch cannot open the .pt2 file: {reason}") from error

    @property
    def name(self) -> str:
        """`pt2`, the variant where that is not `eager`, and the device."""
        variant = "" if self.variant == "eager" else f" {self.variant}"
        return f"pt2{variant} ({self.device.type.upper()})"


@contextmanager
def _logged_reasons() -> Iterator[list[str]]:
    """Collect what `torch.export.load` logs in place of printing it: its error only says that the log has the reason.

    Each is the first sentence of the innermost exception, which PyTorch 2.9 puts into the text of the record.
    """
    reasons: list[str] = []

    def collect(record: logging.LogRecord) -> bool:
        errors = (*(record.exc_info or ()), *(record.args or ()))
        reasons.extend(reason_of(error).partition(". ")[0] for error in errors if isinstance(error, BaseException))
        return False

    logger = logging.getLogger("torch.export")
    logger.addFilter(collect)
    try:
        yield reasons
    finally:
        logger.removeFilter(collect)


def _loaded(program: torch.export.ExportedProgram, device: torch.device) -> torch.nn.Module:
    """What loading the file gives: with guards on the input, assertions, and dropout that does nothing."""
    return program.module().to(device)


def _eager(program: torch.export.ExportedProgram, device: torch.device) -> torch.fx.GraphModule:
    """The program's module without what eager PyTorch does not have: input guards, assertions, dead dropout.

    They took more than half of the time of a small network at batch 1 (157 µs against 67 µs for the module itself;
    77 µs without them). `check_feed` has checked the input before.
    """
    # PyTorch 2.8 and older have no such argument, and check in a hook, which is removed below
    has_guards = "check_guards" in inspect.signature(program.module).parameters
    module = program.module(check_guards=False) if has_guards else program.module()
    assert isinstance(module, torch.fx.GraphModule)
    module._forward_pre_hooks.clear()
    if device.type != "cpu":
        _copy_where_needed(module)
    for node in list(module.graph.nodes):
        match str(node.target):
            case "aten._assert_tensor_metadata.default":
                module.graph.erase_node(node)
            case "aten.dropout.default" if node.args[2] is False:
                node.replace_all_uses_with(node.args[0])
                module.graph.erase_node(node)
    module.graph.set_codegen(torch.fx.graph.CodeGen())  # no trees around one tensor in and two out
    module.recompile()
    return module.to(device)


def _copy_where_needed(module: torch.fx.GraphModule) -> None:
    """Make every `view` a `reshape`, which copies where the strides allow no view.

    A program holds the views of the device that exported it. Elsewhere strides differ: attention's on a GPU do, and
    torch.export drops a `contiguous()` that did nothing on the processor (PyTorch's issues 179287 and 186381).
    """
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default


def _channels_last(program: torch.export.ExportedProgram, device: torch.device) -> torch.fx.GraphModule:
    """The eager module, with the channels of weights and activations last in memory.

    After the first convolution, each operator passes the layout on to the next. Before it, the graph's cast to float32
    asks for contiguous memory; that is changed, so that pixels keep the channels-last layout they come in.

    Source: PyTorch, tutorial "Channels Last Memory Format in PyTorch".
    """
    module = _eager(program, device).to(memory_format=torch.channels_last)
    _copy_where_needed(module)
    for node in module.graph.nodes:
        node.args = tuple(torch.preserve_format if item is torch.contiguous_format else item for item in node.args)
    module.recompile()
    return module


def _compiled(program: torch.export.ExportedProgram, device: torch.device) -> Module:
    """The eager module, compiled with its weights as constants."""
    from onward.backends.frozen_module import FrozenModule

    return FrozenModule(_eager(program, device), device)


#: Variant -> what makes it of the program.
VARIANTS: Mapping[str, Callable[[torch.export.ExportedProgram, torch.device], Module]] = {
    "eager": _eager,
    "loaded": _loaded,
    "channels-last": _channels_last,
    "compiled": _compiled,
}


def _open_device(request: ProviderRequest, threads: Threads) -> torch.device:
    """The torch device of the first provider that PyTorch can run on here; sets the process's number of threads.

    Of a provider's options PyTorch uses only `device_id`; TF32 stays off.
    """
    device = _choose(request)
    if device.type == "cuda":
        # cuDNN computes convolutions in TF32 by default, 10 bits of a float32's 23: parity would not hold
        torch.backends.cudnn.allow_tf32 = False
    if threads.intra_op is not None:
        torch.set_num_threads(threads.intra_op)
    return device


def _choose(request: ProviderRequest) -> torch.device:
    known = [provider for provider in request.providers if provider.name in (CPU, CUDA)]
    for provider in known:
        if provider.name == CPU:
            return torch.device("cpu")
        if torch.cuda.is_available() and provider.device_id < torch.cuda.device_count():
            return torch.device("cuda", provider.device_id)
    where = f" {known[0].options['device_id']}" if "device_id" in known[0].options else ""
    raise BackendError(f"PyTorch finds no CUDA device{where} here; `--provider cpu` runs on the processor.")


def _to_tensors(arrays: Mapping[str, NDArray[Any]], device: torch.device, *, shared: bool) -> list[torch.Tensor]:
    """Tensors on the device, made of arrays of any memory layout; `shared` avoids a copy where that is possible.

    PyTorch takes no negative strides and warns about read-only memory; such arrays are copied.
    """
    tensors = [_to_tensor(array, shared) for array in arrays.values()]
    return tensors if device.type == "cpu" else [tensor.to(device) for tensor in tensors]


def _to_tensor(array: NDArray[Any], shared: bool) -> torch.Tensor:
    if shared and array.flags.c_contiguous and array.flags.writeable:
        return torch.from_numpy(array)
    return torch.tensor(np.ascontiguousarray(array))


def _can_share_memory(signature: AnySignature) -> bool:
    """Whether the network cannot write into its input: pixels are cast first, so that it sees only a copy.

    Tensors reach it as they are, and a `ReLU(inplace=True)` as its first layer would change the caller's array.
    """
    return isinstance(signature, Signature) and signature.interface == "pixels"


def _to_numpy(outputs: tuple[torch.Tensor, ...]) -> list[NDArray[Any]]:
    """A model's outputs as arrays in the processor's memory; waits for the device."""
    return [tensor.numpy() if tensor.is_cpu else tensor.cpu().numpy() for tensor in outputs]


def load_program(file: Path | io.BytesIO) -> torch.export.ExportedProgram:
    """Load a .pt2 file without the warning of PyTorch 2.12 that its own buffer is not writable.

    Source: torch.export, `load`; torch.export.pt2_archive._package, `_create_flat_tensor_from_bytes`.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given buffer is not writable", category=UserWarning)
        return torch.export.load(file)


@contextmanager
def torchscript_is_meant() -> Iterator[None]:
    """Silence the deprecation warnings of `torch.jit`."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
        yield
