"""ONNX through onnxruntime."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from onward.backends.binding import BINDING_PROVIDERS, BoundSession, pinned_memory
from onward.backends.placement import Placement, check_placement, read_placement
from onward.backends.providers import CPU, AnyProvider, Provider, ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError, ProviderError, reason_of
from onward.feed import Feed, by_name, check_feed
from onward.signature import OUTPUTS
from onward.tensor_signature import AnySignature

__all__ = ["ORT_ERRORS", "SessionBackend", "open_session", "run_as_written"]

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
