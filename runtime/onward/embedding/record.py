"""Record: the golden record of a bundle, in files that any language reads.

golden.json says what there is; every array is a file of its own, raw, little-endian, in C order. What a model made of
its inputs on some machine is not among it: an app computes its own noise ratio.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.bundle import Bundle
from onward.embedding.cards import draw_cards
from onward.parity import ASSERT_CLOSE_ATOL, ASSERT_CLOSE_RTOL, BATCH_SIZES, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR
from onward.tensor_signature import of_images

__all__ = ["write_record"]

FORMAT = 1


def write_record(bundle: Bundle, folder: Path) -> None:
    """Write golden.json, its arrays and the test cards.

    Args:
        bundle: Of a model that takes images.
        folder: Is made.
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
    cards = []
    for card in draw_cards(signature):
        (folder / card.path).write_bytes(card.content)
        pixels = _write_array(folder, f"{card.path}.bin", card.pixels)
        cards.append({"path": card.path, "pixels": pixels} | card.tolerance())
    document = {
        "format": FORMAT,
        "max_noise_ratio": MAX_NOISE_RATIO,
        "max_relative_error": MAX_RELATIVE_ERROR,
        "batch_sizes": list(BATCH_SIZES),
        "assert_close": {"rtol": ASSERT_CLOSE_RTOL, "atol": ASSERT_CLOSE_ATOL},
        "kinds": kinds,
        "cards": cards,
    }
    (folder / "golden.json").write_text(json.dumps(document, indent=2) + "\n")


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    (folder / name).write_bytes(little.tobytes())
    return {"path": name, "dtype": array.dtype.name, "shape": list(array.shape)}
