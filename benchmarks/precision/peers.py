"""Peers: the same float32 file and calibration images, quantised by onnxruntime's own quantizer and by NNCF."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["quantize_by_nncf", "quantize_by_onnxruntime"]

NNCF = """
import sys, numpy as np, nncf, onnx
source, images, out = sys.argv[1:]
images = np.load(images)
dataset = nncf.Dataset([images[at : at + 1] for at in range(len(images))], lambda image: {"image": image})
onnx.save(nncf.quantize(onnx.load(source), dataset, subset_size=len(images)), out)
"""


def quantize_by_onnxruntime(source: Path, images: NDArray[np.uint8], out: Path) -> None:
    """`quant_pre_process`, then `quantize_static`: QDQ, weights by channel, uint8 and int8."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            batches = (images[at : at + 32] for at in range(0, len(images), 32))
            self.batches: Iterator[dict[str, Any]] = ({"image": batch} for batch in batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared))
    quantize_static(
        str(prepared),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    prepared.unlink()


def quantize_by_nncf(source: Path, images: NDArray[np.uint8], out: Path, python: str) -> None:
    """`nncf.quantize` at its defaults, in an environment of its own."""
    saved = out.with_suffix(".images.npy")
    np.save(saved, images)
    subprocess.run([python or sys.executable, "-c", NNCF, source, saved, out], check=True, capture_output=True)
    saved.unlink()
