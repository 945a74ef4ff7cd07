"""Latency: onnxruntime beside PyTorch eager and compiled, on one network.

`arrays`: from a numpy array to numpy arrays through Onward's backends, copies included. `card`: the input lies on the
card, and the outputs stay there; plain onnxruntime with its I/O bound, and PyTorch's modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, on_device, pixels_for, session_backend, torch_backend
from benchmarks.gpu.section import Row, Setting
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.backends.torch_backend import ExportedProgramBackend
from onward.signature import of_images

__all__ = ["run"]

EAGER = "PyTorch eager"
COMPILED = "PyTorch compiled"


def run(setting: Setting, name: str) -> Iterator[Row]:
    bundle = bundle_of(name, setting)
    signature = of_images(bundle.signature)
    session = session_backend(bundle, setting)
    opened: dict[str, ExportedProgramBackend] = {EAGER: torch_backend(bundle, setting)}
    if setting.device == "cuda":
        opened["PyTorch channels_last"] = torch_backend(bundle, setting, "torch-channels-last")
        opened[COMPILED] = torch_backend(bundle, setting, "torch-compile")
    for batch_size in setting.batch_sizes:
        is_compiled = batch_size in setting.compiled_batch_sizes
        modules = {way: backend for way, backend in opened.items() if way != COMPILED or is_compiled}
        pixels = pixels_for(signature, batch_size)
        arrays: dict[str, Callable[[], Way]] = {
            "onnxruntime": lambda: lambda: session.run(pixels),  # noqa: B023
            **{way: lambda backend=backend: lambda: backend.run(pixels) for way, backend in modules.items()},  # type: ignore[misc]  # noqa: B023
        }
        card: dict[str, Callable[[], Way]] = {
            "onnxruntime": lambda: BoundOnDevice(session.session, pixels, len(signature.labels), setting),  # noqa: B023
            **{
                way: lambda backend=backend: on_device(backend.module, pixels, setting)  # type: ignore[misc]  # noqa: B023
                for way, backend in modules.items()
            },
        }
        for place, ways in {"arrays": arrays, "card": card}.items():
            base = {"network": name, "batch": batch_size, "from": place}
            yield from rows_of_ways(ways, base, setting, reference=EAGER)
