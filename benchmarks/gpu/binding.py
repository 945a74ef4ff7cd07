"""Binding: what bound inputs and outputs and pinned memory change, in onnxruntime on the card.

`run` is the session's plain call; `bound` and `bound, pinned` are Onward's `BoundSession` without and with pinned
memory; `on the card` leaves out the copies. Onward binds where onnxruntime gives out pinned memory. Where it does not,
its CUDA library is registered by hand at the end, which shows whether that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, pixels_for, session_backend
from benchmarks.gpu.section import Row, Setting, attempt
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.backends.onnxruntime_backend import BoundSession, SessionBackend, pinned_memory
from onward.backends.providers import CUDA
from onward.errors import BackendError
from onward.signature import IMAGE, of_images
from onward.tasks.classification import OUTPUTS

__all__ = ["run"]

PLAIN = "run"


def run(setting: Setting) -> Iterator[Row]:
    yield {"pinned_memory": pinned_memory() is not None}
    yield from _compare(setting)
    if setting.device == "cuda" and pinned_memory() is None:
        row = attempt({"way": "bound, pinned"}, _register)
        yield row
        if "error" not in row:
            yield from _compare(setting)


def _compare(setting: Setting) -> Iterator[Row]:
    memory = pinned_memory()
    for name in [item for item in setting.networks if item != "resnet50"]:
        bundle = bundle_of(name, setting)
        signature = of_images(bundle.signature)
        backend = session_backend(bundle, setting)
        for batch_size in setting.batch_sizes:
            pixels = pixels_for(signature, batch_size)
            ways: dict[str, Callable[[], Way]] = {
                PLAIN: lambda: lambda: backend.session.run(OUTPUTS, {IMAGE: pixels}),  # noqa: B023
                "bound": lambda: _bound(backend, pixels),  # noqa: B023
                "on the card": lambda: BoundOnDevice(backend.session, pixels, len(signature.labels), setting),  # noqa: B023
            }
            if memory is not None:
                ways["bound, pinned"] = lambda: _bound(backend, pixels, memory)  # noqa: B023
            base = {"network": name, "batch": batch_size, "input_mb": pixels.nbytes / 1e6}
            yield from rows_of_ways(ways, base, setting, reference=PLAIN)
            yield base | {"way": "same outputs", "same_bits": _agree(backend, pixels, memory)}


def _register() -> Row:
    """Register onnxruntime's own CUDA library as one that is loaded at run time, which lists its devices.

    Source: onnxruntime, `register_execution_provider_library`.
    """
    (library,) = Path(ort.__file__).parent.glob("capi/*onnxruntime_providers_cuda.*")
    ort.register_execution_provider_library(CUDA, str(library))
    if pinned_memory() is None:
        raise BackendError("this onnxruntime gives out no pinned memory, also where its CUDA library is registered.")
    return {"registered": True}


def _bound(backend: SessionBackend, pixels: np.ndarray, memory: ort.OrtMemoryInfo | None = None) -> Way:
    bound = BoundSession(backend.session, OUTPUTS, memory=memory)
    return lambda: bound.run({IMAGE: pixels})


def _agree(backend: SessionBackend, pixels: np.ndarray, memory: ort.OrtMemoryInfo | None) -> bool:
    """Whether the bound run gives the bits of the plain one."""
    plain = backend.session.run(OUTPUTS, {IMAGE: pixels})
    found = BoundSession(backend.session, OUTPUTS, memory=memory).run({IMAGE: pixels})
    return all(np.array_equal(one, other) for one, other in zip(found, plain, strict=True))
