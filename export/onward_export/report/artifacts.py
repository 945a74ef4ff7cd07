"""Artifacts: formats that failed, where the stored values come from, the passes over the ONNX graph, and the error
along it.
"""

from __future__ import annotations

from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import lines
from onward_export.explanation import Explanation
from onward_export.passes import PassResult
from onward_export.report.results import ParityResults
from onward_export.weights.account import Way

__all__ = ["add_explanations", "add_failed_formats", "add_passes", "add_weights"]

WEIGHT_COLUMNS = (
    "artifact",
    "equal bit for bit",
    "rearranged",
    "folded",
    "probed",
    "single numbers",
    "unexplained",
    "verdict",
)
WAYS: tuple[Way, ...] = ("equal", "rearranged", "folded", "probed", "single number")
#: This many are listed; the others are behind a summary line.
MAX_UNEXPLAINED = 12


def add_failed_formats(page: Page, results: ParityResults) -> None:
    """A row for each format that is not published."""
    if not results.failed:
        return
    page.section(
        "Formats that are not published",
        "A format that cannot be made, does not run or fails the gate does not keep the others from being published, "
        "unless it was asked for with `--formats`.",
    )
    page.table(["format", "outcome", "reason"], [[item.format, item.outcome, item.reason] for item in results.failed])


def add_weights(page: Page, results: ParityResults) -> None:
    """A table of counts, then the names behind them."""
    page.section(
        "Weights",
        "Every stored value must equal the checkpoint's bit for bit, or a value computed from it, such as a folded "
        "batch norm. What is neither is probed: the nodes that read it run alone on random inputs, beside the same "
        "part of PyTorch's program in float64. Outputs alone would miss a changed weight behind a unit that never "
        "fires.",
    )
    rows = [
        [item.artifact, *(f"{item.weights.count(way):,}" for way in WAYS)]
        + [f"{len(item.weights.unexplained):,}", "passed" if item.weights.passed else "failed"]
        for item in results.artifacts
    ]
    page.table(WEIGHT_COLUMNS, rows)
    for item in results.artifacts:
        unexplained = item.weights.unexplained
        if unexplained:
            page.points([f"{item.artifact}: {tensor}." for tensor in unexplained[:MAX_UNEXPLAINED]])
        if len(unexplained) > MAX_UNEXPLAINED:
            others = unexplained[MAX_UNEXPLAINED:]
            page.details(f"{item.artifact}: {len(others):,} more unexplained tensors", others)
        for way in ("folded", "probed"):
            values = item.weights.all_by(way)
            if values:
                noun = "value" if len(values) == 1 else "values"
                page.details(f"{item.artifact}: {len(values):,} {way} {noun}, by name", values)


def add_passes(page: Page, results: ParityResults) -> None:
    """Each pass with its noise ratio, and whether it was kept."""
    passes = [result for item in results.artifacts for result in item.passes]
    if not passes:
        return
    page.section(
        "Passes",
        "The changes to the ONNX graph, each on a copy. The graph after all of them was measured. Where its noise "
        "ratio is above 2, each was measured, and an optional one that would raise it above 2 was left out.",
    )
    page.table(["pass", "changes", "noise ratio before", "after", "kept", "reason"], [_row(item) for item in passes])


def _row(item: PassResult) -> list[str]:
    before, after = (
        "–" if ratio is None else f"{ratio:.2f}" for ratio in (item.noise_ratio_before, item.noise_ratio_after)
    )
    return [item.name, str(item.num_applied), before, after, "yes" if item.was_kept else "no", item.reason]


EXPLANATION_COLUMNS = ("ONNX node", "type", "operator and module in PyTorch", "error", "PyTorch's own error", "ratio")
NUM_BEFORE, NUM_AFTER = 6, 4
#: Limits of the logarithmic axis: it cannot show 0 or infinity.
SMALLEST, LARGEST = 1e-2, 1e9


def add_explanations(page: Page, results: ParityResults) -> None:
    """The error along the graph of each artifact with an explanation."""
    for item in results.artifacts:
        if item.explanation is not None:
            _add(page, item.explanation, passed=item.passed)


def _add(page: Page, explanation: Explanation, *, passed: bool) -> None:
    points = explanation.points
    first = explanation.first
    page.section(
        "Error along the graph" if passed else "Where the error begins",
        _largest_ratio(explanation) if passed else explanation.sentence(),
    )
    if len(points) > 1:
        ratios = [min(max(point.ratio, SMALLEST), LARGEST) for point in points]
        chart = lines(
            {"error over PyTorch's own": ratios, "limit of the gate": [MAX_NOISE_RATIO] * len(points)},
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


def _largest_ratio(explanation: Explanation) -> str:
    if not explanation.points:
        return "No value of the file has a counterpart in PyTorch's program."
    worst = max(explanation.points, key=lambda point: point.ratio)
    return (
        f"Every value of the file that has a counterpart in PyTorch's program is compared with it in float64. The "
        f"largest error is at {worst.value} ({worst.op_type}, from {worst.origin}): {worst.ratio:.2f} times PyTorch's "
        f"own error there."
    )
