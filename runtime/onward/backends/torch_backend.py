"""The device that PyTorch's two backends run on.

FrozenModule: a module compiled by Inductor with its weights as constants, anew for each batch size.

.pt2, the exported program, through PyTorch: its module is what PyTorch runs eagerly, or compiles.

TorchScript through PyTorch.

The one place that answers torch 2.15's deprecation of `torch.jit`: TorchScript stays an artifact of ours, because
C++ and mobile apps load it, and .pt2 stands beside it.
"""

from __future__ import annotations

import io
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import InvalidCxxCompiler

from onward.backends.providers import CPU, CUDA, AnyProvider, ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError, reason_of
from onward.feed import Feed, check_feed
from onward.signature import OUTPUTS, AnySignature, Signature

__all__ = [
    "ExportedProgramBackend",
    "FrozenModule",
    "TorchScriptBackend",
    "can_share",
    "open_device",
    "to_numpy",
    "to_tensors",
    "torchscript_is_meant",
]


DEVICES = {CPU: "cpu", CUDA: "cuda"}


def open_device(provider: AnyProvider, threads: Threads) -> torch.device:
    """The torch device of the first provider that PyTorch can run on here, with the process's number of threads set.

    Of a provider's options only `device_id` is PyTorch's; TF32 stays off.

    Raises:
        BackendError: PyTorch has no such device here.
        ProviderError: A name is unknown.
    """
    device = _choose(ProviderRequest.of(provider))
    if device.type == "cuda":
        # cuDNN's default for convolutions is TF32, 10 bits of a float32's 23: parity would not hold
        torch.backends.cudnn.allow_tf32 = False
    if threads.intra_op is not None:
        torch.set_num_threads(threads.intra_op)
    return device


def _choose(request: ProviderRequest) -> torch.device:
    known = [provider for provider in request.providers if provider.name in DEVICES]
    for provider in known:
        if provider.name == CPU:
            return torch.device("cpu")
        if torch.cuda.is_available() and provider.device_id < torch.cuda.device_count():
            return torch.device("cuda", provider.device_id)
    if not known:
        raise BackendError(f"PyTorch runs on {' or '.join(DEVICES.values())}, not on '{request}'.")
    where = f" {known[0].options['device_id']}" if "device_id" in known[0].options else ""
    raise BackendError(f"PyTorch finds no CUDA device{where} here; `--provider cpu` runs on the processor.")


def to_tensors(arrays: Mapping[str, NDArray[Any]], device: torch.device, *, shared: bool) -> list[torch.Tensor]:
    """Tensors on the device, of arrays of any memory layout; `shared`: on the arrays' own memory where that can be.

    PyTorch takes no negative strides and warns of read-only memory; such arrays are copied.
    """
    tensors = [_to_tensor(array, shared) for array in arrays.values()]
    return tensors if device.type == "cpu" else [tensor.to(device) for tensor in tensors]


def _to_tensor(array: NDArray[Any], shared: bool) -> torch.Tensor:
    if shared and array.flags.c_contiguous and array.flags.writeable:
        return torch.from_numpy(array)
    return torch.tensor(np.ascontiguousarray(array))


def can_share(signature: AnySignature) -> bool:
    """Whether a network cannot write into what it is fed: of pixels it sees only the cast that is made of them.

    Tensors it sees as they are, and a first `ReLU(inplace=True)` would change the caller's array.
    """
    return isinstance(signature, Signature) and signature.interface == "pixels"


def to_numpy(outputs: tuple[torch.Tensor, ...]) -> list[NDArray[Any]]:
    """A model's outputs as arrays in the processor's memory; waits for the device."""
    return [tensor.numpy() if tensor.is_cpu else tensor.cpu().numpy() for tensor in outputs]


Module = Callable[..., tuple[torch.Tensor, ...]]


class FrozenModule:
    """Runs a module compiled; the first batch of a size is compiled for, which takes seconds.

    Call it where no gradients are recorded: Inductor freezes weights only there.

    Args:
        module: Of tensors in, a tuple of tensors out; its weights stay as they are from then on.
        device: The one that it is on.

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
        """Run one batch; its shapes are compiled for once.

        Raises:
            BackendError: It cannot be compiled.
        """
        shapes = tuple(tensor.shape for tensor in tensors)
        compiled = self._by_shapes.get(shapes)
        if compiled is None:
            with self._lock:
                compiled = self._by_shapes.get(shapes) or self._compile(tensors)
                self._by_shapes[shapes] = compiled
        return compiled(*tensors)

    def _compile(self, tensors: tuple[torch.Tensor, ...]) -> Module:
        """A copy of the module's code, compiled by being run once; the weights are not copied.

        The copy, because PyTorch compiles one piece of code for a few shapes only and then runs it eagerly without
        a word. Freezing is set around the run and not among `torch.compile`'s options: those reach Inductor alone,
        and Dynamo, which must mark the weights as constants first, would not know of it.
        """
        assert isinstance(self.module, torch.fx.GraphModule)
        code = torch.fx.GraphModule(self.module, self.module.graph)
        compiled: Module = torch.compile(code, dynamic=False, fullgraph=True)
        try:
            # the compiler's own remarks on a graph that it then compiles; none of them concerns who runs it
            with warnings.catch_warnings(), torch._inductor.config.patch(freezing=True):
                warnings.simplefilter("ignore")
                compiled(*tensors)
        except TorchDynamoException as error:
            raise BackendError(f"torch.compile cannot compile the model: {reason_of(error)}") from error
        return compiled


def _check_compiler() -> None:
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise BackendError(
            "the runner 'compiled' needs a C++ compiler, and there is none here: install g++ or clang, or name one in "
            "the environment variable CXX. The runner 'eager' needs none."
        ) from error


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


@contextmanager
def torchscript_is_meant() -> Iterator[None]:
    """Silence the deprecation warnings of `torch.jit`."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
        yield


class TorchScriptBackend:
    """Runs model.torchscript, frozen.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives.
        device: `cpu` or `cuda`, or a request that has one of them.
        threads: Of one inference; PyTorch has one setting for the whole process.

    Raises:
        BackendError: PyTorch cannot open the file, or the device is missing.

    Source: torch.jit, `load`, `freeze`.
    """

    placement = None
    outputs = OUTPUTS

    def __init__(
        self, data: bytes, *, signature: AnySignature, device: AnyProvider = "cpu", threads: Threads | None = None
    ) -> None:
        self.signature = signature
        self.inputs = tuple(item.name for item in signature.inputs)
        self.shared = can_share(signature)
        self.device = open_device(device, threads or Threads())
        try:
            with torchscript_is_meant():
                module = torch.jit.load(io.BytesIO(data), map_location=self.device)  # type: ignore[no-untyped-call]
                self.module = torch.jit.freeze(module.eval())
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot open the TorchScript file: {error}") from error

    @property
    def name(self) -> str:
        """`torchscript`, and the device."""
        return f"torchscript ({self.device.type.upper()})"

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        return dict(zip(self.outputs, self.infer(check_feed(feed, self.signature)), strict=True))

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; float32 arrays in the order of `outputs`."""
        with torch.inference_mode():
            return to_numpy(self.module(*to_tensors(arrays, self.device, shared=self.shared)))
