"""Method: the samples, files and preconditions behind the verdict.

No clock time, path or host is written, so that the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.parity import BATCH_SIZES, CONSTANT, MAX_RELATIVE_ERROR
from onward.report import Page
from onward_export.reference.preconditions import ROUNDING_FLOAT64
from onward_export.report.results import ParityResults

__all__ = ["add_method", "preconditions"]

PACKAGES = ("torch", "onnx", "onnxruntime")
OPENED_BY = {"onnx": "onnxruntime", "torchscript": "PyTorch, torch.jit", "pt2": "PyTorch, torch.export"}
KINDS = {
    "real": "real samples, of the test set where there is one",
    "random": "uniformly random values with a fixed seed",
    "resized": "uniformly random values at another height and width",
    CONSTANT: "images of one value, or nearly",
}


def add_method(page: Page, results: ParityResults) -> None:
    """Samples, files, PyTorch's own ways, and the preconditions of the reference."""
    sizes = ", ".join(map(str, BATCH_SIZES))
    page.section("What was tested", f"Every artifact ran on every sample, in batches of {sizes}.")
    page.table(
        ["samples", "number", "input", "description"],
        [
            [kind, f"{results.num_samples(kind):,}", _shapes(results.record.inputs[kind]), KINDS.get(kind, "")]
            for kind in results.record.inputs
        ],
    )
    page.table(
        ["file", "opened by", "size", "opset"],
        [
            [item.file, OPENED_BY.get(item.artifact, item.artifact), _size(item.size_bytes)]
            + ["–" if item.opset is None else str(item.opset)]
            for item in results.artifacts
        ],
    )
    page.section(
        "Preconditions",
        "These hold for the model, so that it can serve as the reference. Otherwise it is not exported.",
    )
    page.points([*preconditions(results), f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}."])


def preconditions(results: ParityResults) -> list[str]:
    """What was checked before the model became the reference (rule 1 of docs/parity.md), one sentence each."""
    found = [
        "No weight and no output is NaN or infinite.",
        "The model is in eval mode, autocast is off. Two runs in float32 agree bit for bit, and no cast to a narrower "
        "float changes the outputs by more than PyTorch's own error.",
        f"The outputs depend on the input: {_range(results)}.",
    ]
    if not results.is_measured:
        return [*found, "The model does not run in float64, so PyTorch's float32 outputs are the reference."]
    return [
        *found,
        f"In float64, outputs for single samples and for batches of {max(BATCH_SIZES)} are the same to within "
        f"{ROUNDING_FLOAT64:g} of their scale.",
        f"PyTorch's own float32 was computed in {2 * len(BATCH_SIZES)} ways: batches of "
        f"{', '.join(map(str, BATCH_SIZES))}, in contiguous and channels_last memory format. Its largest error is "
        f"{_conditioning(results)} of the output's scale; at most {MAX_RELATIVE_ERROR:g} is accepted as a floor.",
    ]


def _range(results: ParityResults) -> str:
    """How much each output varies between samples."""
    ranges = []
    for output in results.outputs:
        values = np.concatenate([results.record.reference[kind][output] for kind in results.kinds])
        floor = max(results.record.noise[kind][output].floor for kind in results.kinds)
        ranges.append(f"{output} vary by up to {np.ptp(values, axis=0).max() / floor:,.0f} noise floors")
    return ", ".join(ranges)


def _conditioning(results: ParityResults) -> str:
    noises = [noise for kind in results.kinds for noise in results.record.noise[kind].values()]
    return f"{max(noise.floor / noise.scale for noise in noises):.1e}"


def _shapes(feed: NDArray[Any] | Mapping[str, NDArray[Any]]) -> str:
    arrays = feed if isinstance(feed, Mapping) else {"": feed}
    return ", ".join(
        f"{name} {array.dtype} {'×'.join(map(str, array.shape[1:]))}".strip() for name, array in arrays.items()
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.1f} kB"
