"""ONNX through onnxruntime, on the execution providers that were asked for.

Where an NVIDIA GPU runs the model, inputs are copied to pinned (page-locked) memory and bound (`BoundSession`): a GPU
copies from ordinary memory through a small buffer of the driver, and from pinned memory directly. onnxruntime gives out
pinned memory only where its CUDA provider registers its devices (onnxruntime-gpu 1.31 does not). Elsewhere the session
is run plainly: bound to ordinary memory it took 1 to 16 % longer (docs/gpu.md).
"""

from __future__ import annotations

import io
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from onward.backends.backend import Backend
from onward.backends.placement import Placement, check_placement, read_placement
from onward.backends.providers import CPU, CUDA, TENSORRT, Provider, ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError, ProviderError, reason_of
from onward.host.forks import let_children_end, never_free_in_children
from onward.signature import AnySignature

__all__ = [
    "BINDING_PROVIDERS",
    "ORT_ERRORS",
    "BoundSession",
    "SessionBackend",
    "known_inexactness",
    "open_session",
    "pinned_memory",
    "run_as_written",
]

let_children_end()  # of this process, which has imported onnxruntime

#: Providers that run on NVIDIA's GPUs.
BINDING_PROVIDERS = (TENSORRT, CUDA)
#: onnxruntime's exceptions have no common base but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    item for item in vars(onnxruntime_pybind11_state).values() if isinstance(item, type) and issubclass(item, Exception)
)
#: onnxruntime's log level that shows fatal errors only.
SILENT = 4
#: Operators that onnxruntime computes with a larger error than PyTorch, and the first version that no longer does.
#: Before, the variance of LayerNormalization was the mean of the squares less the square of the mean: over 2,048
#: features, the error was 5 times PyTorch's for a mean of 0, and 142 times for a mean of 10 standard deviations.
INEXACT_BEFORE = {"LayerNormalization": (1, 30)}


class SessionBackend(Backend):
    """Runs an ONNX artifact.

    Args:
        data: The content of the file.
        signature: What the model takes and gives; None for the file's own inputs and outputs.
        request: The execution providers.
        threads: How many threads one inference may use.
        beside: File name -> bytes, of weights in separate files.

    Raises:
        BackendError: onnxruntime cannot open the file; the file disagrees with the signature; without a signature, an
            input or an output is not a tensor.
        ProviderError: The provider is missing or does not take the model.

    Source: onnxruntime, `InferenceSession`.
    """

    def __init__(
        self,
        data: bytes,
        *,
        signature: AnySignature | None,
        request: ProviderRequest,
        threads: Threads,
        beside: Mapping[str, bytes],
    ) -> None:
        self.signature = signature
        self.request = request
        self.num_threads = threads.count
        self.session = open_session(data, request, threads, beside)
        self.inputs = tuple(item.name for item in self.session.get_inputs())
        self.outputs = tuple(item.name for item in self.session.get_outputs())
        _check_interface(self.session, signature)
        self.bound = _bind(self.session, request, self.outputs)

    @property
    def name(self) -> str:
        """`onnx` and a provider: the first of those asked for that runs any of the model."""
        placed = self.placement
        first = next((name for name in self.request.names if placed.count(name)), next(iter(placed.nodes)))
        return f"onnx ({first.removesuffix('ExecutionProvider')})"

    @cached_property
    def placement(self) -> Placement:
        """Which provider runs which nodes."""
        return read_placement(self.session, self.request)

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; arrays in the order of `outputs`."""
        found: list[NDArray[Any]] = (
            self.session.run(self.outputs, arrays) if self.bound is None else self.bound.run(arrays)
        )
        return found


def open_session(
    data: bytes, provider: Provider | ProviderRequest, threads: Threads, beside: Mapping[str, bytes]
) -> ort.InferenceSession:
    """A session with every graph optimisation, checked to run on the providers that were asked for.

    Raises:
        BackendError: onnxruntime cannot open the file.
        ProviderError: A provider is missing, or takes fewer nodes of the model than it must.
    """
    request = ProviderRequest((provider,)) if isinstance(provider, Provider) else provider
    providers = request.available()
    _load_libraries(providers)
    options = _options(threads)
    with _model(data, beside, options) as model:
        session = _start(model, options, providers)
    never_free_in_children(session)
    if request.names != (CPU,):
        check_placement(read_placement(session, request), request)
    return session


def _options(threads: Threads) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # EXTENDED loses the blocked convolution layout: 0.52 to 0.67 of the speed on ResNet-18.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads.count
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads.spin)))
    # costs nothing that could be measured: ResNet-18 opens in 36.8 ms with it, 36.9 ms without
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = SILENT
    return options


@contextmanager
def _model(data: bytes, beside: Mapping[str, bytes], options: ort.SessionOptions) -> Iterator[bytes | Path]:
    """The bytes whose digests were checked, not what the files hold by now, as this onnxruntime takes them."""
    if not beside:
        yield data
    elif hasattr(options, "add_external_initializers_from_files_in_memory"):
        options.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), [len(content) for content in beside.values()]
        )
        yield data
    else:  # an older onnxruntime
        with tempfile.TemporaryDirectory(prefix="onward-", ignore_cleanup_errors=True) as folder:
            for name, content in ({"model.onnx": data} | dict(beside)).items():
                Path(folder, name).write_bytes(content)
            yield Path(folder, "model.onnx")


def _load_libraries(providers: Sequence[Provider]) -> None:
    """Load CUDA's libraries from where pip installed them; onnxruntime looks there only when it is told to.

    What it prints is discarded: standard output holds the answer only, and the session reports what is missing.
    """
    if hasattr(ort, "preload_dlls") and any(provider.name in BINDING_PROVIDERS for provider in providers):
        with redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _start(model: bytes | Path, options: ort.SessionOptions, providers: Sequence[Provider]) -> ort.InferenceSession:
    """A session on these providers, or on those after the first where that one cannot start.

    onnxruntime's own fallback is off: it prints to standard output and takes the CPU even where nobody asked for it.
    A provider that cannot start either raises or is left out; `check_placement` handles both.
    """
    chosen = [(provider.name, dict(provider.options)) for provider in providers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # warns of a fallback, which check_placement makes an error
            return ort.InferenceSession(model, options, providers=chosen, enable_fallback=0)
    except ORT_ERRORS as error:
        raise BackendError(f"onnxruntime cannot open the ONNX file: {error}") from error
    except (RuntimeError, ValueError) as error:
        if len(providers) > 1:
            return _start(model, options, providers[1:])
        raise ProviderError(
            f"{providers[0].name} was asked for and did not start: {reason_of(error)} "
            f"`--provider {providers[0].short_name},cpu` would run on the CPU instead."
        ) from error


def _check_interface(session: ort.InferenceSession, signature: AnySignature | None) -> None:
    items = [*session.get_inputs(), *session.get_outputs()]
    if signature is None:
        for item in items:
            if not item.type.startswith("tensor("):
                raise BackendError(f"'{item.name}' of the ONNX file has the type {item.type}, expected a tensor.")
        return
    names = [item.name for item in items]
    expected = [*(item.name for item in signature.inputs), *signature.output_names]
    if names != expected:
        raise BackendError(f"the ONNX file has inputs and outputs {names}, expected {expected}.")


def _bind(session: ort.InferenceSession, request: ProviderRequest, outputs: Sequence[str]) -> BoundSession | None:
    """Bind pinned memory where an NVIDIA GPU runs the model and it is given out; elsewhere a plain run is faster."""
    binding = [item for item in request.providers if item.name in BINDING_PROVIDERS]
    if not binding or binding[0].name not in session.get_providers():
        return None
    memory = pinned_memory(binding[0].device_id)
    return None if memory is None else BoundSession(session, outputs, memory=memory)


class BoundSession:
    """Runs a session with its inputs and outputs bound. Several threads may use it at once.

    Args:
        session: An opened session, on any provider.
        outputs: Names of its outputs.
        memory: Memory that inputs are copied to before they are bound, in one buffer per thread; None binds the
            arrays themselves.

    Source: onnxruntime, `IOBinding`.
    """

    def __init__(
        self, session: ort.InferenceSession, outputs: Sequence[str], *, memory: ort.OrtMemoryInfo | None = None
    ) -> None:
        self.session = session
        self.outputs = outputs
        self.memory = memory
        self._own = threading.local()

    def run(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch: input name -> array of any memory layout; the outputs belong to the caller."""
        binding = self.session.io_binding()
        for name, array in arrays.items():
            if self.memory is None or not array.size:
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            else:
                binding.bind_ortvalue_input(name, self._stage(name, array))
        for name in self.outputs:
            binding.bind_output(name)
        binding.synchronize_inputs()
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return found

    def _stage(self, name: str, array: NDArray[Any]) -> ort.OrtValue:
        """The array, copied to this thread's buffer. The buffer is free: `run` waits for the outputs."""
        buffers: dict[str, tuple[ort.OrtValue, NDArray[Any]]] = self._own.__dict__
        if name not in buffers or (buffers[name][1].shape, buffers[name][1].dtype) != (array.shape, array.dtype):
            buffers[name] = _allocate(array.shape, array.dtype, self.memory)
        value, view = buffers[name]
        view[...] = array
        return value


def pinned_memory(device_id: int = 0) -> ort.OrtMemoryInfo | None:
    """The pinned memory of an NVIDIA GPU, where this onnxruntime gives it out.

    Source: onnxruntime, `OrtEpDevice.memory_info`; the views came with pull request 28038.
    """
    for device in ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else ():
        memory = device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE) if device.ep_name == CUDA else None
        if memory is not None and memory.device_id == device_id and _is_shared(memory):
            return memory
    return None


def _is_shared(memory: ort.OrtMemoryInfo) -> bool:
    """Whether numpy writes to that memory itself: older versions of onnxruntime give a copy, or raise."""
    try:
        value, view = _allocate((1,), np.dtype(np.uint8), memory)
    except (RuntimeError, TypeError):
        return False
    return bool(view.ctypes.data == value.data_ptr())


def _allocate(
    shape: tuple[int, ...], dtype: np.dtype[Any], memory: ort.OrtMemoryInfo
) -> tuple[ort.OrtValue, NDArray[Any]]:
    value = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, memory_info=memory)
    return value, value.numpy()


def run_as_written(
    data: bytes,
    feed: Mapping[str, NDArray[Any]],
    outputs: Sequence[str],
    beside: Mapping[str, bytes] | None = None,
) -> list[NDArray[Any]]:
    """Run a graph once on the CPU without graph optimisations: node by node, as the file has it.

    Args:
        data: The content of the file.
        feed: Input name -> array; names that are not inputs are ignored.
        outputs: Names of the outputs.
        beside: File name -> bytes, of weights in separate files.

    Raises:
        ORT_ERRORS: The model does not open or run.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = SILENT
    with _model(data, beside or {}, options) as model:
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}
    found: list[NDArray[Any]] = session.run(outputs, {name: array for name, array in feed.items() if name in taken})
    return found


def known_inexactness(op_type: str) -> str:
    """A sentence on an operator that this version of onnxruntime computes with a larger error than PyTorch; or none.

    It begins with a space.
    """
    exact_from = INEXACT_BEFORE.get(op_type, ())
    if tuple(map(int, ort.__version__.split(".")[:2])) >= exact_from:
        return ""
    wanted = ".".join(map(str, exact_from))
    return f" onnxruntime before {wanted} computes {op_type} with a larger error, and this is {ort.__version__}."
