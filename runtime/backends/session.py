"""ONNX through onnxruntime."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from runtime.backends.backend import Threads
from runtime.errors import BackendError
from runtime.feed import Feed, check_feed
from runtime.providers import CPU, Provider, check_placement
from runtime.signature import OUTPUTS
from runtime.tensor_signature import AnySignature

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
        signature: What the model takes and gives.
        provider: An execution provider, short or full; it must take at least one node.
        threads: Of one inference.
        beside: File name -> bytes, of weights in files of their own.

    Raises:
        BackendError: onnxruntime cannot open the file.
        ProviderError: The provider is missing or did not take the model.

    Source: onnxruntime, `InferenceSession`.
    """

    def __init__(
        self,
        data: bytes,
        *,
        signature: AnySignature,
        provider: str = "cpu",
        threads: Threads | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        self.signature = signature
        self.session = open_session(data, Provider.parse(provider), threads or Threads(), beside or {})
        names = [item.name for item in (*self.session.get_inputs(), *self.session.get_outputs())]
        expected = [*(item.name for item in signature.inputs), *OUTPUTS]
        if names != expected:
            raise BackendError(f"the ONNX file has inputs and outputs {names}, expected {expected}.")

    @property
    def name(self) -> str:
        """`onnx`, and the provider."""
        return f"onnx ({self.session.get_providers()[0].removesuffix('ExecutionProvider')})"

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        return dict(zip(OUTPUTS, self.session.run(OUTPUTS, check_feed(feed, self.signature)), strict=True))


def open_session(
    data: bytes, provider: Provider, threads: Threads, beside: Mapping[str, bytes]
) -> ort.InferenceSession:
    """A session of one provider, with every graph optimisation, that was seen to run on that provider.

    Raises:
        BackendError: onnxruntime cannot open the file.
        ProviderError: The provider did not take the model.
    """
    options = ort.SessionOptions()
    # EXTENDED loses the blocked convolution layout: 0.52 to 0.67 of the speed on ResNet-18.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads.count
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(threads.spin)))
    options.log_severity_level = SILENT
    if beside:
        # the very bytes that were held against their digests, not whatever lies under that name by now
        options.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), [len(content) for content in beside.values()]
        )
    on_accelerator = provider.name != CPU
    if on_accelerator:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a fallback: check_placement makes it an error
            session = ort.InferenceSession(data, options, providers=[(provider.name, dict(provider.options))])
    except ORT_ERRORS as error:
        raise BackendError(f"onnxruntime cannot open the ONNX file: {error}") from error
    if on_accelerator:
        check_placement(session, provider)
    return session


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
