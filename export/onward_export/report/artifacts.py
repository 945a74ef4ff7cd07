"""Artifacts: what became of every stored weight, what was done to the ONNX graph, the error along it."""

from __future__ import annotations

from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import lines
from onward_export.explanation import Explanation
from onward_export.passes import PassResult
from onward_export.report.results import ParityResults

__all__ = ["add_explanations", "add_passes", "add_weights"]

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
MAX_UNEXPLAINED = 12


def add_weights(page: Page, results: ParityResults) -> None:
    """A table of counts, then the names behind them."""
    page.section(
        "Weights",
        "Every stored value is the model's, bit for bit, or a stated fold of it. Outputs alone would miss a changed "
        "weight behind a unit that never fires.",
    )
    rows = [
        [item.artifact, f"{item.weights.num_exact:,}", f"{item.weights.num_rearranged:,}"]
        + [f"{len(item.weights.folds):,}", f"{item.weights.num_scalars:,}", f"{len(item.weights.unexplained):,}"]
        + ["passed" if item.weights.passed else "failed"]
        for item in results.artifacts
    ]
    page.table(ACCOUNT_COLUMNS, rows)
    for item in results.artifacts:
        unexplained, folds = item.weights.unexplained, item.weights.folds
        if unexplained:
            page.points([f"{item.artifact}: {tensor}." for tensor in unexplained[:MAX_UNEXPLAINED]])
        if len(unexplained) > MAX_UNEXPLAINED:
            others = unexplained[MAX_UNEXPLAINED:]
            page.details(f"{item.artifact}: {len(others):,} more that are unexplained", others)
        if folds:
            page.details(f"{item.artifact}: {len(folds):,} {'fold' if len(folds) == 1 else 'folds'}, by name", folds)


def add_passes(page: Page, results: ParityResults) -> None:
    """Each step with its noise ratio, and those that were left out."""
    passes = [result for item in results.artifacts for result in item.passes]
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


def add_explanations(page: Page, results: ParityResults) -> None:
    """Where the error begins, of each artifact whose graph was followed."""
    for item in results.artifacts:
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
