"""Accuracy: whether a fast backend has correct outputs, too."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.report_view import ReportView, difference, ratio
from onward.benchmarking.row import IMPRECISE, Row
from onward.lower_precision import MAX_DEVIATION_RATIO
from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import scatter
from onward.statistics import wilson_interval

__all__ = ["add_accuracy"]

#: The axis is logarithmic if the largest noise ratio is more than this many times the smallest.
MAX_LINEAR = 30
DIFFERENCE = "largest difference from the first"


def add_accuracy(page: Page, view: ReportView) -> None:
    """Accuracy and noise ratio against latency, and which outputs are wrong."""
    if not view.timed:
        return
    page.section("Accuracy and speed", _explanation(view))
    for charts in _arrange_charts(view):
        page.figures(charts)
    page.table(*_table(view))
    if wrong := _wrong(view):
        page.points(wrong)


def _explanation(view: ReportView) -> str:
    text = "Outputs were checked during the benchmark. "
    if any(row.noise_ratio is not None for row in view.timed):
        text += (
            "The noise ratio is the distance from the float64 reference, over the distance of PyTorch's own float32 "
            f"outputs; up to {MAX_NOISE_RATIO:g} passes. "
        )
    else:
        text += "A file without a golden record must reproduce its own outputs for the same inputs. "
    if any(row.deviation_ratio is not None for row in view.timed):
        text += (
            "A lower precision has no noise ratio: its outputs must be those that were recorded when the artifact was "
            f"built, up to {MAX_DEVIATION_RATIO:g} times its quantisation error. What it loses against float32 is in "
            "its manifest (onward inspect). "
        )
    if _has_labels(view):
        return text + "Accuracy is that on the given labelled inputs; vertical lines are 95 % intervals."
    return text + "Without labelled inputs (--input) there is no accuracy."


def _has_labels(view: ReportView) -> bool:
    return any(row.accuracy is not None for row in view.timed)


def _arrange_charts(view: ReportView) -> list[list[tuple[str, str]]]:
    """A line for each batch size if it has two charts; else both batch sizes in one line."""
    found = [list(_charts(view, size)) for size in view.extreme_batch_sizes]
    if all(len(charts) <= 1 for charts in found):
        found = [[chart for charts in found for chart in charts]]
    return [charts for charts in found if charts]


def _charts(view: ReportView, batch_size: int) -> Iterator[tuple[str, str]]:
    rows = {row.candidate: row for row in view.rows_at(batch_size) if row.latency}
    x_label = f"median ms at batch size {batch_size}"
    if _has_labels(view):
        points = {name: (x, y * 100) for name, (x, y) in _points(view, rows, "accuracy").items()}
        errors = {
            view.flagged_name(candidate): _interval_percent(row) for candidate, row in rows.items() if row.num_labelled
        }
        yield (
            f"Accuracy, batch size {batch_size}",
            scatter(points, x_label=x_label, y_label="accuracy, %", errors=errors),
        )
    points = _points(view, rows, "noise_ratio")
    known = [y for _, y in points.values() if math.isfinite(y) and y > 0]
    if known:
        chart = scatter(points, x_label=x_label, y_label="noise ratio", log_y=max(known) > MAX_LINEAR * min(known))
        yield f"Noise ratio, batch size {batch_size}", chart


def _interval_percent(row: Row) -> tuple[float, float]:
    low, high = wilson_interval(row.num_correct, row.num_labelled)
    return 100 * low, 100 * high


def _points(view: ReportView, rows: dict[Candidate, Row], name: str) -> dict[str, tuple[float, float]]:
    """All candidates, so that each keeps its colour; NaN for those without a row."""
    points = {}
    for candidate in view.candidates:
        row = rows.get(candidate)
        value = getattr(row, name) if row else None
        x = row.latency.median if row and row.latency else math.nan
        points[view.flagged_name(candidate)] = (x, math.nan if value is None else float(value))
    return points


def _table(view: ReportView) -> tuple[list[str], list[list[str]]]:
    """A line for each candidate, at its worst batch size; columns without values are left out."""
    table = [_cells(candidate, view.rows_of(candidate), view) for candidate in view.candidates]
    if len({candidate.target for candidate in view.candidates}) == 1:
        title = f"largest difference from {view.name(view.candidates[0])}"
        table = [{title if key == DIFFERENCE else key: cell for key, cell in cells.items()} for cells in table]
    columns = [name for name in table[0] if any(cells[name] for cells in table)]
    return columns, [[cells[name] or "–" for name in columns] for cells in table]


def _cells(candidate: Candidate, rows: list[Row], view: ReportView) -> dict[str, str]:
    noise = [row.noise_ratio for row in rows if row.noise_ratio is not None]
    deviations = [row.deviation_ratio for row in rows if row.deviation_ratio is not None]
    first = rows[0]
    return {
        "backend": view.flagged_name(candidate),
        "outputs": _verdict(rows, is_known=bool(noise or deviations)),
        "largest noise ratio": ratio(max(noise)) if noise else "",
        "deviation / quantisation error": ratio(max(deviations)) if deviations else "",
        DIFFERENCE: "" if first.max_delta is None else difference(first.max_delta),
        "accuracy": "" if first.accuracy is None else f"{first.accuracy:.2%}",
        "correct": f"{first.num_correct:,} of {first.num_labelled:,}" if first.num_labelled else "",
    }


def _verdict(rows: list[Row], *, is_known: bool) -> str:
    """`passed` only where the right outputs are known: a file without a golden record can at most repeat its own."""
    statuses = {row.status for row in rows}
    good = "passed" if is_known else "repeatable"
    return "failed" if "wrong" in statuses else IMPRECISE if IMPRECISE in statuses else good


def _wrong(view: ReportView) -> list[str]:
    """A sentence for each candidate with wrong outputs: at which batch sizes, and by how much."""
    sizes: dict[tuple[Candidate, str], list[str]] = {}
    for row in view.timed:
        if row.status == "wrong":
            sizes.setdefault((row.candidate, row.reason), []).append(str(row.batch_size))
    return [
        f"{view.name(candidate)} at batch size {', '.join(found)}: {reason}."
        for (candidate, reason), found in sizes.items()
    ]
