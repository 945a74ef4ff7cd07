"""ONNX through OpenVINO, on the processor."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray

from onward.backends.backend import Backend
from onward.backends.providers import ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError
from onward.signature import AnySignature

__all__ = ["CompiledModelBackend"]


class CompiledModelBackend(Backend):
    """Runs an ONNX artifact with OpenVINO.

    Args:
        data: The content of the file.
        signature: What the model takes and gives; None for the file's own inputs and outputs.
        request: Has the CPU, which is where it runs.
        threads: How many threads one inference may use.
        beside: File name -> bytes, of weights in separate files.

    Raises:
        BackendError: OpenVINO cannot open the file, or the file disagrees with the signature.

    Source: OpenVINO, `Core.compile_model`, `InferRequest.infer`.
    """

    name = "onnx openvino (CPU)"

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
        self.num_threads = threads.count
        self.model = _compile(data, threads, beside)
        self.inputs, self.outputs = _names(self.model, signature)
        self._order = [_find(self.model.outputs, name) for name in self.outputs]
        self._own = threading.local()

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; arrays in the order of `outputs`.

        OpenVINO reads the inputs without a copy where their memory layout allows it. The results are copies, because
        the next batch overwrites OpenVINO's own memory.
        """
        # to_tuple, because each look-up in the result of `infer` makes a list of its keys: 3 µs
        found = self._request().infer(dict(arrays), share_inputs=True, share_outputs=False).to_tuple()
        return [found[index] for index in self._order]

    def _request(self) -> openvino.InferRequest:
        """The inference request of this thread: a request runs one batch at a time."""
        if not hasattr(self._own, "request"):
            self._own.request = self.model.create_infer_request()
        request: openvino.InferRequest = self._own.request
        return request


def _compile(data: bytes, threads: Threads, beside: Mapping[str, bytes]) -> openvino.CompiledModel:
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # the files of weights are removed after they were read
    options = {
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bfloat16 where the processor has it: no parity
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
    """The model's bytes, or the path of a copy: OpenVINO reads separate files of weights only from the same folder."""
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
    """The message itself; the lines before it are places in OpenVINO's source."""
    return str(error).strip().splitlines()[-1]


def _names(model: openvino.CompiledModel, signature: AnySignature | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    inputs, outputs = (tuple(port.any_name for port in ports) for ports in (model.inputs, model.outputs))
    if signature is None:
        return inputs, outputs
    expected = tuple(item.name for item in signature.inputs)
    given = signature.output_names
    if {*expected, *given} != {*inputs, *outputs} or len(inputs) != len(expected):
        found = [*inputs, *outputs]
        raise BackendError(f"the ONNX file has inputs and outputs {found}, expected {[*expected, *given]}.")
    return expected, given


def _find(ports: Sequence[openvino.ConstOutput], name: str) -> int:
    return next(index for index, port in enumerate(ports) if name in port.get_names())
