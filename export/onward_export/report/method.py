"""Trials: what was tried before the verdict. No clock time, no path and no host: the bytes of the page repeat."""

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
    "real": "real samples, from the test part where a data set has one",
    "random": "random numbers, every value as likely as every other; the seed is fixed",
    "resized": "random numbers, at another height and width",
    CONSTANT: "all of one value, or nearly",
}


def add_method(page: Page, results: ParityResults) -> None:
    """Samples, files, PyTorch's own ways, and the preconditions of the reference."""
    sizes = ", ".join(map(str, BATCH_SIZES))
    page.section("What was tried", f"Every sample on every artifact, in batches of {sizes}.")
    page.table(
        ["samples", "number", "input", "what they are"],
        [
            [kind, f"{results.num_samples(kind):,}", _shapes(results.record.inputs[kind]), KINDS.get(kind, "")]
            for kind in results.record.inputs
        ],
    )
    page.table(
        ["opened anew from", "by", "size", "opset"],
        [
            [item.file, OPENED_BY.get(item.artifact, item.artifact), _size(item.size_bytes)]
            + ["–" if item.opset is None else str(item.opset)]
            for item in results.artifacts
        ],
    )
    page.section(
        "What was found true of the model", "Before it became a reference; a model that fails one of these is refused."
    )
    page.points([*preconditions(results), f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}."])


def preconditions(results: ParityResults) -> list[str]:
    """What was found true of the model before it became a reference (rule 1 of docs/parity.md), a sentence each."""
    found = [
        "No weight is NaN or infinite, and no output is for any sample.",
        "The model is in eval mode, autocast is off. Two runs in float32 agree bit for bit, and no operator computes "
        "in a narrower float.",
        f"The outputs depend on the input: {_range(results)}.",
    ]
    if not results.is_measured:
        return [*found, "It does not run in float64, so PyTorch's float32 is the reference."]
    return [
        *found,
        f"Computed in float64 one by one and in batches of {max(BATCH_SIZES)}, its outputs are the same to "
        f"{ROUNDING_FLOAT64:g} of their scale.",
        f"PyTorch's own float32 was computed in {2 * len(BATCH_SIZES)} ways, batches of "
        f"{', '.join(map(str, BATCH_SIZES))} in memory formats contiguous and channels_last; its largest error is "
        f"{_conditioning(results)} of the output's scale (at most {MAX_RELATIVE_ERROR:g} may serve as a floor).",
    ]


def _range(results: ParityResults) -> str:
    """How far each output moves from sample to sample."""
    moves = []
    for output in results.outputs:
        values = np.concatenate([results.record.reference[kind][output] for kind in results.kinds])
        floor = max(results.record.noise[kind][output].floor for kind in results.kinds)
        moves.append(f"{output} move by up to {np.ptp(values, axis=0).max() / floor:,.0f} noise floors")
    return ", ".join(moves)


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
