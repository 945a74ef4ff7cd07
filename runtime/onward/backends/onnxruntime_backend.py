"""Binding: runs a session on memory that is bound to it.

A card copies from ordinary memory by way of a small buffer of the driver's, and from pinned (page-locked) memory
directly. onnxruntime hands out pinned memory only where its CUDA provider is registered with devices of its own;
elsewhere the arrays are bound as they are.

ONNX through onnxruntime.
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from onward.backends.providers import (
    CPU,
    CUDA,
    TENSORRT,
    AnyProvider,
    Placement,
    Provider,
    ProviderRequest,
    check_placement,
    read_placement,
)
from onward.backends.registry import Threads
from onward.errors import BackendError, ProviderError, reason_of
from onward.feed import Feed, by_name, check_feed
from onward.signature import OUTPUTS, AnySignature

__all__ = [
    "BINDING_PROVIDERS",
    "ORT_ERRORS",
    "BoundSession",
    "SessionBackend",
    "open_session",
    "pinned_memory",
    "run_as_written",
]


#: Those of NVIDIA's cards.
BINDING_PROVIDERS = (TENSORRT, CUDA)


class BoundSession:
    """Runs a session with its inputs and outputs bound; from several threads at once, if so wished.

    Args:
        session: An opened one, on any provider.
        outputs: Names of its outputs.
        memory: Where inputs are copied to before they are bound, a buffer for each thread; None binds the arrays.

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
        """The array in this thread's buffer. It is free again: `run` returns when the outputs are there."""
        buffers: dict[str, tuple[ort.OrtValue, NDArray[Any]]] = self._own.__dict__
        if name not in buffers or (buffers[name][1].shape, buffers[name][1].dtype) != (array.shape, array.dtype):
            buffers[name] = _allocate(array.shape, array.dtype, self.memory)
        value, view = buffers[name]
        view[...] = array
        return value


def pinned_memory(device_id: int = 0) -> ort.OrtMemoryInfo | None:
    """The pinned memory of an NVIDIA card, where this onnxruntime hands it out.

    Source: onnxruntime, `OrtEpDevice.memory_info`; the views came with pull request 28038.
    """
    for device in ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else ():
        memory = device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE) if device.ep_name == CUDA else None
        if memory is not None and memory.device_id == device_id and _is_shared(memory):
            return memory
    return None


def _is_shared(memory: ort.OrtMemoryInfo) -> bool:
    """Whether what numpy writes arrives: older ones give a copy, or no such memory."""
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


#: onnxruntime's exceptions have no common base but Exception.
ORT_ERRORS: tuple[type[Exception], ...] = tuple(
    item for item in vars(onnxruntime_pybind11_state).values() if isinstance(item, type) and issubclass(item, Exception)
)
SILENT = 4


class SessionBackend:
    """Runs model.onnx.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives; None takes the file's own inputs and outputs.
        provider: An execution provider, short or full, or several with a comma between them; or a request.
        threads: Of one inference.
        beside: File name -> bytes, of weights in files of their own.

    Raises:
        BackendError: onnxruntime cannot open the file; it disagrees with the signature; without one, an input or an
            output is no tensor.
        ProviderError: The provider is missing or did not take the model.

    Source: onnxruntime, `InferenceSession`.
    """

    def __init__(
        self,
        data: bytes,
        *,
        signature: AnySignature | None,
        provider: AnyProvider = "cpu",
        threads: Threads | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        self.signature = signature
        self.request = ProviderRequest.of(provider)
        self.session = open_session(data, self.request, threads or Threads(), beside or {})
        self.inputs = tuple(item.name for item in self.session.get_inputs())
        self.outputs = tuple(item.name for item in self.session.get_outputs())
        _check_interface(self.session, signature)
        self.bound = _bind(self.session, self.request, self.outputs)

    @property
    def name(self) -> str:
        """`onnx`, and the provider: of those asked for the first that runs any of it."""
        placed = self.placement
        first = next((name for name in self.request.names if placed.count(name)), next(iter(placed.nodes)))
        return f"onnx ({first.removesuffix('ExecutionProvider')})"

    @cached_property
    def placement(self) -> Placement:
        """Which provider runs which nodes."""
        return read_placement(self.session, self.request)

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        arrays = by_name(feed, self.inputs) if self.signature is None else check_feed(feed, self.signature)
        return dict(zip(self.outputs, self.infer(arrays), strict=True))

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; arrays in the order of `outputs`."""
        found: list[NDArray[Any]] = (
            self.session.run(self.outputs, arrays) if self.bound is None else self.bound.run(arrays)
        )
        return found


def open_session(
    data: bytes, provider: Provider | ProviderRequest, threads: Threads, beside: Mapping[str, bytes]
) -> ort.InferenceSession:
    """A session with every graph optimisation, that was seen to run on the providers that were asked for.

    Raises:
        BackendError: onnxruntime cannot open the file.
        ProviderError: A provider is missing, or took less of the model than it must.
    """
    request = ProviderRequest((provider,)) if isinstance(provider, Provider) else provider
    providers = request.there()
    _load_libraries(providers)
    session = _start(data, _options(threads, beside), providers)
    if request.names != (CPU,):
        check_placement(read_placement(session, request), request)
    return session


def _options(threads: Threads, beside: Mapping[str, bytes]) -> ort.SessionOptions:
    options = ort.SessionOptions()
    # EXTENDED loses the blocked convolution layout: 0.52 to 0.67 of the speed on ResNet-18.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads.count
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads.spin)))
    # costs nothing that could be measured: ResNet-18 opens in 36.8 ms with it, 36.9 ms without
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.log_severity_level = SILENT
    if beside:
        # the very bytes that were held against their digests, not whatever lies under that name by now
        options.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), [len(content) for content in beside.values()]
        )
    return options


def _load_libraries(providers: Sequence[Provider]) -> None:
    """Load CUDA's libraries where pip put them; onnxruntime looks there only when it is told to.

    What it prints goes nowhere: standard output is the answer's, and the session says by itself what it lacks.
    """
    if hasattr(ort, "preload_dlls") and any(provider.name in BINDING_PROVIDERS for provider in providers):
        with redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _start(data: bytes, options: ort.SessionOptions, providers: Sequence[Provider]) -> ort.InferenceSession:
    """The session of these providers, or of those behind the first where one of them cannot start.

    onnxruntime's own fallback is off: it prints to standard output and takes the CPU, be it asked for or not. Some
    providers that cannot start raise, others are left out: `check_placement` looks at both.
    """
    chosen = [(provider.name, dict(provider.options)) for provider in providers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a fallback: check_placement makes it an error
            return ort.InferenceSession(data, options, providers=chosen, enable_fallback=0)
    except ORT_ERRORS as error:
        raise BackendError(f"onnxruntime cannot open the ONNX file: {error}") from error
    except (RuntimeError, ValueError) as error:
        if len(providers) > 1:
            return _start(data, options, providers[1:])
        raise ProviderError(
            f"{providers[0].name} was asked for and did not start: {reason_of(error)} "
            f"`--provider {providers[0].short_name},cpu` would run on the CPU instead."
        ) from error


def _check_interface(session: ort.InferenceSession, signature: AnySignature | None) -> None:
    items = [*session.get_inputs(), *session.get_outputs()]
    if signature is None:
        for item in items:
            if not item.type.startswith("tensor("):
                raise BackendError(f"'{item.name}' of the ONNX file is a {item.type}, expected a tensor.")
        return
    names, expected = [item.name for item in items], [*(item.name for item in signature.inputs), *OUTPUTS]
    if names != expected:
        raise BackendError(f"the ONNX file has inputs and outputs {names}, expected {expected}.")


def _bind(session: ort.InferenceSession, request: ProviderRequest, outputs: Sequence[str]) -> BoundSession | None:
    """Bound memory where a card of NVIDIA's runs the model; a plain run is as fast elsewhere, and simpler."""
    binding = [item for item in request.providers if item.name in BINDING_PROVIDERS]
    if not binding or binding[0].name not in session.get_providers():
        return None
    return BoundSession(session, outputs, memory=pinned_memory(binding[0].device_id))


def run_as_written(data: bytes, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
    """Run a graph once on the CPU with every graph optimisation off: node by node as it is in the file.

    Args:
        data: The model's bytes.
        feed: Input name -> array; names that are no inputs are left out.
        outputs: Names of outputs.

    Raises:
        ORT_ERRORS: It does not open or run.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = SILENT
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    taken = {item.name for item in session.get_inputs()}
    found: list[NDArray[Any]] = session.run(outputs, {name: array for name, array in feed.items() if name in taken})
    return found
