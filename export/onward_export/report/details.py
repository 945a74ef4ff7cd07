"""Accounts: what became of every stored weight.

Passes: what was done to the ONNX graph, and what it cost.

The error along the graph of an ONNX file, as a chart and a table of the place where it begins.

Trials: what was tried before the verdict. No clock time, no path and no host: the bytes of the page repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.parity import BATCH_SIZES, CONSTANT, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR
from onward.report import Page
from onward.report.charts import lines
from onward_export.explanation import Explanation
from onward_export.passes import PassResult
from onward_export.preconditions import ROUNDING_FLOAT64
from onward_export.report.evidence import Evidence

__all__ = ["add_accounts", "add_explanations", "add_passes", "add_trials", "checks"]


ACCOUNT_COLUMNS = (
    "artifact",
    "equal bit for bit",
    "rearranged",
    "folds",
    "scalars of the graph",
    "unexplained",
    "verdict",
)
#: So many are said at once; of more, the others have to be opened.
MAX_STRANGERS = 12


def add_accounts(page: Page, evidence: Evidence) -> None:
    """A table of counts, then the names behind them."""
    page.section(
        "Weights",
        "Every stored value is the model's, bit for bit, or a stated fold of it. Outputs alone would miss a changed "
        "weight behind a unit that never fires.",
    )
    rows = [
        [item.artifact, f"{item.weights.num_exact:,}", f"{item.weights.num_rearranged:,}"]
        + [f"{len(item.weights.folds):,}", f"{item.weights.num_scalars:,}", f"{len(item.weights.strangers):,}"]
        + ["passed" if item.weights.passed else "failed"]
        for item in evidence.examinations
    ]
    page.table(ACCOUNT_COLUMNS, rows)
    for item in evidence.examinations:
        strangers, folds = item.weights.strangers, item.weights.folds
        if strangers:
            page.points([f"{item.artifact}: {stranger}." for stranger in strangers[:MAX_STRANGERS]])
        if len(strangers) > MAX_STRANGERS:
            others = strangers[MAX_STRANGERS:]
            page.details(f"{item.artifact}: {len(others):,} more that are unexplained", others)
        if folds:
            page.details(f"{item.artifact}: {len(folds):,} {'fold' if len(folds) == 1 else 'folds'}, by name", folds)


def add_passes(page: Page, evidence: Evidence) -> None:
    """Each step with its noise ratio, and those that were left out."""
    passes = [result for item in evidence.examinations for result in item.passes]
    if not passes:
        return
    page.section(
        "Passes",
        "What was done to the ONNX graph, each step on a copy that was measured. A step that would "
        "take the noise ratio above 2 was left out.",
    )
    page.table(["pass", "places", "noise ratio before", "after", "kept", ""], [_row(item) for item in passes])


def _row(item: PassResult) -> list[str]:
    before, after = (
        "–" if ratio is None else f"{ratio:.2f}" for ratio in (item.noise_ratio_before, item.noise_ratio_after)
    )
    return [item.name, str(item.num_applied), before, after, "yes" if item.was_kept else "no", item.reason]


EXPLANATION_COLUMNS = ("ONNX node", "operator", "from PyTorch's", "error", "PyTorch's own", "ratio")
NUM_BEFORE, NUM_AFTER = 6, 4
#: A logarithmic axis has no place for 0, and none for what has no size.
SMALLEST, LARGEST = 1e-2, 1e9


def add_explanations(page: Page, evidence: Evidence) -> None:
    """Where the error begins, of each artifact whose graph was followed."""
    for item in evidence.examinations:
        if item.explanation is not None:
            _add(page, item.explanation, passed=item.passed)


def _add(page: Page, explanation: Explanation, *, passed: bool) -> None:
    points = explanation.points
    first = explanation.first
    page.section(
        "Error along the graph" if passed else "Where it begins",
        _furthest(explanation) if passed else explanation.sentence(),
    )
    if len(points) > 1:
        ratios = [min(max(point.ratio, SMALLEST), LARGEST) for point in points]
        chart = lines(
            {"error over PyTorch's own": ratios, "the gate": [MAX_NOISE_RATIO] * len(points)},
            x=list(range(1, len(points) + 1)),
            x_label="node of the graph",
            y_label="ratio",
            log_y=True,
        )
        page.figures([("Error of each value over PyTorch's own, in the order of the graph", chart)])
    at = points.index(first) if first is not None else max(range(len(points)), key=lambda i: points[i].ratio, default=0)
    shown = points[max(at - NUM_BEFORE, 0) : at + NUM_AFTER + 1]
    page.table(
        EXPLANATION_COLUMNS,
        [
            [point.node, point.op_type, point.origin, point.mismatch or f"{point.error:.1e}"]
            + [f"{point.floor:.1e}", f"{point.ratio:,.2f}"]
            for point in shown
        ],
    )


def _furthest(explanation: Explanation) -> str:
    if not explanation.points:
        return "No value of the file has a counterpart in PyTorch's program."
    worst = max(explanation.points, key=lambda point: point.ratio)
    return (
        f"Every value of the file that has a counterpart in PyTorch's program, held against it in float64. The "
        f"furthest is {worst.value} ({worst.op_type}, from {worst.origin}), at {worst.ratio:.2f} times PyTorch's own "
        f"error there."
    )


PACKAGES = ("torch", "onnx", "onnxruntime")
OPENED_BY = {"onnx": "onnxruntime", "torchscript": "PyTorch, torch.jit", "pt2": "PyTorch, torch.export"}
KINDS = {
    "real": "real samples, from the test part where a data set has one",
    "random": "random numbers, every value as likely as every other; the seed is fixed",
    "resized": "random numbers, at another height and width",
    CONSTANT: "all of one value, or nearly",
}


def add_trials(page: Page, evidence: Evidence) -> None:
    """Samples, files, PyTorch's own ways, and the checks of the reference."""
    sizes = ", ".join(map(str, BATCH_SIZES))
    page.section("What was tried", f"Every sample on every artifact, in batches of {sizes}.")
    page.table(
        ["samples", "number", "input", "what they are"],
        [
            [kind, f"{evidence.num_samples(kind):,}", _shapes(evidence.record.inputs[kind]), KINDS.get(kind, "")]
            for kind in evidence.record.inputs
        ],
    )
    page.table(
        ["opened anew from", "by", "size", "opset"],
        [
            [item.file, OPENED_BY.get(item.artifact, item.artifact), _size(item.size_bytes)]
            + ["–" if item.opset is None else str(item.opset)]
            for item in evidence.examinations
        ],
    )
    page.section(
        "What was found true of the model", "Before it became a reference; a model that fails one of these is refused."
    )
    page.points([*checks(evidence), f"Versions: {', '.join(f'{name} {version(name)}' for name in PACKAGES)}."])


def checks(evidence: Evidence) -> list[str]:
    """What was found true of the model before it became a reference (rule 1 of docs/parity.md), a sentence each."""
    found = [
        "No weight is NaN or infinite, and no output is for any sample.",
        "The model is in eval mode, autocast is off. Two runs in float32 agree bit for bit, and no operator computes "
        "in a narrower float.",
        f"The outputs depend on the input: {_range(evidence)}.",
    ]
    if not evidence.is_measured:
        return [*found, "It does not run in float64, so PyTorch's float32 is the reference."]
    return [
        *found,
        f"Computed in float64 one by one and in batches of {max(BATCH_SIZES)}, its outputs are the same to "
        f"{ROUNDING_FLOAT64:g} of their scale.",
        f"PyTorch's own float32 was computed in {2 * len(BATCH_SIZES)} ways, batches of "
        f"{', '.join(map(str, BATCH_SIZES))} in memory formats contiguous and channels_last; its largest error is "
        f"{_conditioning(evidence)} of the output's scale (at most {MAX_RELATIVE_ERROR:g} may serve as a floor).",
    ]


def _range(evidence: Evidence) -> str:
    """How far each output moves from sample to sample."""
    moves = []
    for output in evidence.outputs:
        values = np.concatenate([evidence.record.reference[kind][output] for kind in evidence.kinds])
        floor = max(evidence.record.noise[kind][output].floor for kind in evidence.kinds)
        moves.append(f"{output} move by up to {np.ptp(values, axis=0).max() / floor:,.0f} noise floors")
    return ", ".join(moves)


def _conditioning(evidence: Evidence) -> str:
    noises = [noise for kind in evidence.kinds for noise in evidence.record.noise[kind].values()]
    return f"{max(noise.floor / noise.scale for noise in noises):.1e}"


def _shapes(feed: NDArray[Any] | Mapping[str, NDArray[Any]]) -> str:
    arrays = feed if isinstance(feed, Mapping) else {"": feed}
    return ", ".join(
        f"{name} {array.dtype} {'×'.join(map(str, array.shape[1:]))}".strip() for name, array in arrays.items()
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.1f} kB"
