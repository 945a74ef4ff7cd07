"""Method: the samples, files and preconditions behind the verdict.

No clock time, path or host is written, so that the same results give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.parity import CONSTANT, MAX_RELATIVE_ERROR, batchings
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
    page.section("What was tested", "Every artifact ran on every sample, once for each division into batches.")
    page.table(
        ["samples", "number", "in batches of", "input", "description"],
        [
            [
                kind,
                f"{results.num_samples(kind):,}",
                "; ".join(_batches(kind, results)),
                _shapes(results.record.inputs[kind]),
            ]
            + [KINDS.get(kind, "")]
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
    page.points(
        [
            *preconditions(results),
            *_ways(results),
            f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}.",
        ]
    )


def _ways(results: ParityResults) -> list[str]:
    """Why the samples are so many, and which memory formats are not among PyTorch's own ways."""
    if results.method is None:
        return []
    left_out = [f"{name} is left out: {reason.rstrip('.')}." for name, reason in results.method.left_out.items()]
    return [f"Number of samples: {results.method.stop_reason}.", *left_out]


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
        "In float64, outputs for single samples and for large batches are the same to within "
        f"{ROUNDING_FLOAT64:g} of their scale.",
        "PyTorch's own float32 was computed in the same batches, in contiguous memory format and, where the model "
        f"takes it, in channels_last. Its largest error is {_conditioning(results)} of the output's scale; at most "
        f"{MAX_RELATIVE_ERROR:g} is accepted as a floor.",
    ]


def _batches(kind: str, results: ParityResults) -> list[str]:
    """Each division of the samples of a kind into batches: `1, 2, 5`, or `32` where all have this size."""
    divisions = batchings(results.num_samples(kind), kind)
    return [", ".join(map(str, dict.fromkeys(sizes))) for sizes in divisions]


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
