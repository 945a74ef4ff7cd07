"""TF32: the time that it saves. Its loss is in the section `parity`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.gpu.networks import BoundOnDevice, bundle_of, on_device, pixels_for, session_backend, torch_backend
from benchmarks.gpu.parity import tf32_in_torch
from benchmarks.gpu.section import Row, Setting
from benchmarks.gpu.timing import Way, rows_of_ways
from onward.signature import of_images

__all__ = ["run"]

BATCH_SIZES = (32, 128)


def run(setting: Setting) -> Iterator[Row]:
    for name in setting.networks[1:]:
        bundle = bundle_of(name, setting)
        signature = of_images(bundle.signature)
        off, on = session_backend(bundle, setting), None
        if setting.device == "cuda":
            on = session_backend(bundle, setting, use_tf32="1")
        module = torch_backend(bundle, setting).module
        for batch_size in (2,) if setting.quick else BATCH_SIZES:
            pixels = pixels_for(signature, batch_size)
            count = len(signature.labels)
            ways: dict[str, Callable[[], Way]] = {
                "onnxruntime": lambda: BoundOnDevice(off.session, pixels, count, setting),  # noqa: B023
                "PyTorch eager": lambda: _with_tf32(False, on_device(module, pixels, setting)),  # noqa: B023
                "PyTorch eager, TF32": lambda: _with_tf32(True, on_device(module, pixels, setting)),  # noqa: B023
            }
            if on is not None:
                ways["onnxruntime, TF32"] = lambda: BoundOnDevice(on.session, pixels, count, setting)  # noqa: B023
            base = {"network": name, "batch": batch_size}
            yield from rows_of_ways(ways, base, setting, reference="PyTorch eager")


def _with_tf32(allowed: bool, way: Way) -> Way:
    def call() -> object:
        with tf32_in_torch(allowed):
            return way()

    return call
