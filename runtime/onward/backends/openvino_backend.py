"""CompiledModel: ONNX through OpenVINO, on the processor."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from onward.backends.providers import CPU, AnyProvider, ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError
from onward.feed import Feed, by_name, check_feed
from onward.signature import OUTPUTS, AnySignature

__all__ = ["CompiledModelBackend"]


class CompiledModelBackend:
    """Runs model.onnx with OpenVINO; from several threads at once, if so wished.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives; None takes the file's own inputs and outputs.
        provider: `cpu`, or a request that has it.
        threads: Of one inference.
        beside: File name -> bytes, of weights in files of their own.

    Raises:
        BackendError: OpenVINO cannot open the file, or it disagrees with the signature; the CPU is not among the
            providers.

    Source: OpenVINO, `Core.compile_model`, `InferRequest.infer`.
    """

    placement = None
    name = "onnx openvino (CPU)"

    def __init__(
        self,
        data: bytes,
        *,
        signature: AnySignature | None,
        provider: AnyProvider = "cpu",
        threads: Threads | None = None,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        request = ProviderRequest.of(provider)
        if CPU not in request.names:
            raise BackendError(f"OpenVINO runs on cpu here, not on '{request}'.")
        self.signature = signature
        self.model = _compile(data, threads or Threads(), beside or {})
        self.inputs, self.outputs = _names(self.model, signature)
        self._order = [_find(self.model.outputs, name) for name in self.outputs]
        self._own = threading.local()

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        arrays = by_name(feed, self.inputs) if self.signature is None else check_feed(feed, self.signature)
        return dict(zip(self.outputs, self.infer(arrays), strict=True))

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; arrays in the order of `outputs`.

        The inputs are read where they lie, if they lie there as OpenVINO wants them; the results are copies, because
        its own memory is written to by the next batch.
        """
        # to_tuple, because each look-up in what `infer` gives makes a list of its keys: 3 µs
        found = self._request().infer(dict(arrays), share_inputs=True, share_outputs=False).to_tuple()
        return [found[index] for index in self._order]

    def _request(self) -> openvino.InferRequest:
        """This thread's: a request takes one batch at a time."""
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        request: openvino.InferRequest = self._own.request
        return request


def _compile(data: bytes, threads: Threads, beside: Mapping[str, bytes]) -> openvino.CompiledModel:
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the files that weights are in are removed when they have been read
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # its own choice is bfloat16 where the processor has it: no parity
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads.count,
    }
    try:
        with _lay_out(data, beside) as source:
            return core.compile_model(core.read_model(source), "CPU", options)
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot open the ONNX file: {_last_line(error)}") from error


@contextmanager
def _lay_out(data: bytes, beside: Mapping[str, bytes]) -> Iterator[bytes | str]:
    """The model's bytes, or the path of a copy: OpenVINO reads weights in files of their own only from beside it."""
    if not beside:
        yield data
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        for name, content in beside.items():
            path.with_name(name).write_bytes(content)
        path.write_bytes(data)
        yield str(path)


def _last_line(error: RuntimeError) -> str:
    """What OpenVINO means; the lines before are places in its source."""
    return str(error).strip().splitlines()[-1]


def _names(model: openvino.CompiledModel, signature: AnySignature | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs, outputs = (tuple(port.any_name for port in ports) for ports in (model.inputs, model.outputs))
    if signature is None:
        return inputs, outputs
    expected = tuple(item.name for item in signature.inputs)
    if {*expected, *OUTPUTS} != {*inputs, *outputs} or len(inputs) != len(expected):
        found = [*inputs, *outputs]
        raise BackendError(f"the ONNX file has inputs and outputs {found}, expected {[*expected, *OUTPUTS]}.")
    return expected, OUTPUTS


def _find(ports: Sequence[openvino.ConstOutput], name: str) -> int:
    return next(index for index, port in enumerate(ports) if name in port.get_names())
