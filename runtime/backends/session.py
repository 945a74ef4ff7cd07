"""ONNX through onnxruntime."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state

from runtime.backends.backend import Threads, check_images
from runtime.errors import BackendError
from runtime.providers import CPU, Provider, check_placement
from runtime.signature import IMAGE, OUTPUTS, Signature

__all__ = ["ORT_ERRORS", "SessionBackend", "open_session"]

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

    Raises:
        BackendError: onnxruntime cannot open the file.
        ProviderError: The provider is missing or did not take the model.

    Source: onnxruntime, `InferenceSession`.
    """

    def __init__(
        self, data: bytes, *, signature: Signature, provider: str = "cpu", threads: Threads | None = None
    ) -> None:
        self.signature = signature
        self.session = open_session(data, Provider.parse(provider), threads or Threads())
        names = [item.name for item in (*self.session.get_inputs(), *self.session.get_outputs())]
        if names != [IMAGE, *OUTPUTS]:
            raise BackendError(f"the ONNX file has inputs and outputs {names}, expected {[IMAGE, *OUTPUTS]}.")

    @property
    def name(self) -> str:
        """`onnx`, and the provider."""
        return f"onnx ({self.session.get_providers()[0].removesuffix('ExecutionProvider')})"

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run one batch: uint8 `(batch, height, width, channels)` -> output name -> float32."""
        check_images(images, self.signature)
        return dict(zip(OUTPUTS, self.session.run(OUTPUTS, {IMAGE: images}), strict=True))


def open_session(data: bytes, provider: Provider, threads: Threads) -> ort.InferenceSession:
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
