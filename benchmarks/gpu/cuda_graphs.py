"""CUDA graphs: one launch in place of one for each kernel, for a fixed batch. Plain onnxruntime and PyTorch.

Onward does not use them: a graph holds for one batch size, and for buffers at fixed addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, on_device, pixels_for, session_backend, torch_backend
from benchmarks.gpu.section import Row, Setting, attempt
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.backends.providers import CUDA
from onward.bundle import Bundle
from onward.signature import of_images
from onward.tasks.classification import OUTPUTS

__all__ = ["run"]

EAGER = "PyTorch eager"
BATCH_SIZES = (1, 32)


def run(setting: Setting) -> Iterator[Row]:
    for name in setting.networks:
        bundle = bundle_of(name, setting)
        signature = of_images(bundle.signature)
        plain, module = session_backend(bundle, setting), torch_backend(bundle, setting).module
        for batch_size in BATCH_SIZES:
            pixels = pixels_for(signature, batch_size)
            base = {"network": name, "batch": batch_size}
            ways: dict[str, Callable[[], Way]] = {
                "onnxruntime": lambda: BoundOnDevice(plain.session, pixels, len(signature.labels), setting),  # noqa: B023
                "onnxruntime, CUDA graph": partial(_session_graph, bundle, pixels, setting),
                EAGER: partial(on_device, module, pixels, setting),
                "PyTorch eager, CUDA graph": partial(_torch_graph, module, pixels),
            }
            yield from rows_of_ways(ways, base, setting, reference=EAGER)
            yield attempt(base | {"way": "same outputs"}, partial(_agree, bundle, pixels, setting))


def _session_graph(bundle: Bundle, pixels: NDArray[np.uint8], setting: Setting) -> BoundOnDevice:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_free_dimension_override_by_name("batch", len(pixels))
    provider = (CUDA, {"enable_cuda_graph": "1", "use_tf32": "0"})
    data = bundle.read(bundle.artifact("onnx").file)
    session = ort.InferenceSession(data, options, providers=[provider], enable_fallback=0)
    bound = BoundOnDevice(session, pixels, len(of_images(bundle.signature).labels), setting)
    for _ in range(3):  # the first runs allocate, then one is captured
        bound()
    return bound


def _torch_graph(module: Callable[..., object], pixels: NDArray[np.uint8]) -> Way:
    """Source: PyTorch, `torch.cuda.CUDAGraph`."""
    image = torch.from_numpy(pixels).cuda()
    with torch.inference_mode():
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                module(image)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            kept = module(image)

    def call() -> object:
        graph.replay()
        torch.cuda.synchronize()
        return kept

    return call


def _agree(bundle: Bundle, pixels: NDArray[np.uint8], setting: Setting) -> Row:
    """The largest difference of the graph's outputs from the plain session's."""
    bound = _session_graph(bundle, pixels, setting)
    bound()
    found, plain = bound.outputs(), session_backend(bundle, setting).run(pixels)
    return {
        "same_bits": all(np.array_equal(found[name], plain[name]) for name in OUTPUTS),
        "max_delta": max(float(np.abs(found[name] - plain[name]).max()) for name in OUTPUTS),
    }
