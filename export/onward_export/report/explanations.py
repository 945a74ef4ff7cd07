"""The error along the graph of an ONNX file, as a chart and a table of the place where it begins."""

from __future__ import annotations

from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import lines
from onward_export.explanation import Explanation
from onward_export.report.evidence import Evidence

__all__ = ["add_explanations"]

COLUMNS = ("ONNX node", "operator", "from PyTorch's", "error", "PyTorch's own", "ratio")
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
        COLUMNS,
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
