"""Golden samples: the golden record of a bundle, in files that any language can read.

golden.json lists what there is. Every array is a raw file: little-endian, C order. The outputs of the machine that
built the bundle are not included, because an app computes its own noise ratio.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.bundle import Bundle
from onward.embedding.reference_images import draw_reference_images
from onward.parity import ASSERT_CLOSE_ATOL, ASSERT_CLOSE_RTOL, BATCH_SIZES, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR
from onward.signature import of_images

__all__ = ["write_golden_samples"]

FORMAT = 1


def write_golden_samples(bundle: Bundle, folder: Path) -> None:
    """Write golden.json, its arrays and the reference images.

    Args:
        bundle: The bundle of a model that takes images.
        folder: A new folder.
    """
    folder.mkdir(parents=True)
    golden, signature = bundle.golden(), of_images(bundle.signature)
    kinds = {}
    for kind, images in golden.inputs.items():
        outputs = {
            output: {
                "reference": _write_array(folder, f"{kind}.{output}.bin", reference),
                "noise": asdict(golden.noise[kind][output]),
            }
            for output, reference in golden.reference[kind].items()
        }
        images = np.asarray(images)
        kinds[kind] = {
            "num_samples": len(images),
            "input": _write_array(folder, f"{kind}.input.bin", images),
            "outputs": outputs,
        }
    images_to_decode = []
    for image in draw_reference_images(signature):
        (folder / image.path).write_bytes(image.content)
        pixels = _write_array(folder, f"{image.path}.bin", image.pixels)
        images_to_decode.append({"path": image.path, "pixels": pixels} | image.tolerance())
    document = {
        "format": FORMAT,
        "max_noise_ratio": MAX_NOISE_RATIO,
        "max_relative_error": MAX_RELATIVE_ERROR,
        "batch_sizes": list(BATCH_SIZES),
        "assert_close": {"rtol": ASSERT_CLOSE_RTOL, "atol": ASSERT_CLOSE_ATOL},
        "kinds": kinds,
        "cards": images_to_decode,
    }
    (folder / "golden.json").write_text(json.dumps(document, indent=2) + "\n")


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    (folder / name).write_bytes(little.tobytes())
    return {"path": name, "dtype": array.dtype.name, "shape": list(array.shape)}
