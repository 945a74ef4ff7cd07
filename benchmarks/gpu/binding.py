"""Binding: what bound inputs and outputs and pinned memory change, in onnxruntime on the card.

`run` is the session's plain call; `bound` and `bound, pinned` are Onward's `BoundSession` without and with pinned
memory (the last one is what Onward uses); `on the card` leaves out the copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, pixels_for, session_backend
from benchmarks.gpu.section import Row, Setting
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.backends.onnxruntime_backend import BoundSession, SessionBackend, pinned_memory
from onward.errors import BackendError
from onward.signature import IMAGE, of_images
from onward.tasks.classification import OUTPUTS

__all__ = ["run"]

PLAIN = "run"


def run(setting: Setting) -> Iterator[Row]:
    memory = pinned_memory()
    yield {"pinned_memory": "given out" if memory is not None else "not given out by this onnxruntime"}
    for name in [item for item in setting.networks if item != "resnet50"]:
        bundle = bundle_of(name, setting)
        signature = of_images(bundle.signature)
        backend = session_backend(bundle, setting)
        for batch_size in setting.batch_sizes:
            pixels = pixels_for(signature, batch_size)
            ways: dict[str, Callable[[], Way]] = {
                PLAIN: lambda: lambda: backend.session.run(OUTPUTS, {IMAGE: pixels}),  # noqa: B023
                "bound": lambda: _bound(backend, pixels, pinned=False),  # noqa: B023
                "bound, pinned": lambda: _bound(backend, pixels, pinned=True),  # noqa: B023
                "on the card": lambda: BoundOnDevice(backend.session, pixels, len(signature.labels), setting),  # noqa: B023
            }
            base = {"network": name, "batch": batch_size, "input_mb": pixels.nbytes / 1e6}
            yield from rows_of_ways(ways, base, setting, reference=PLAIN)
            yield base | {"way": "same outputs", "same_bits": _agree(backend, pixels)}


def _bound(backend: SessionBackend, pixels: np.ndarray, *, pinned: bool) -> Way:
    memory = pinned_memory() if pinned else None
    if pinned and memory is None:
        raise BackendError("this onnxruntime gives out no pinned memory.")
    bound = BoundSession(backend.session, OUTPUTS, memory=memory)
    return lambda: bound.run({IMAGE: pixels})


def _agree(backend: SessionBackend, pixels: np.ndarray) -> bool:
    """Whether the bound run gives the bits of the plain one."""
    plain = backend.session.run(OUTPUTS, {IMAGE: pixels})
    found = backend.infer({IMAGE: pixels})
    return all(np.array_equal(one, other) for one, other in zip(found, plain, strict=True))
