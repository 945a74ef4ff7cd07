"""Answers: whether what is fast is right, too."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onward.benchmarking.formatting import difference, ratio
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.spec import Competitor
from onward.benchmarking.summary import IMPRECISE, Row
from onward.parity import MAX_NOISE_RATIO
from onward.report import Page
from onward.report.charts import scatter
from onward.statistics import wilson_interval

__all__ = ["add_answers"]

#: A largest noise ratio that is so many times the smallest wants a logarithmic axis.
LONG = 30
DIFFERENCE = "largest difference from the first"


def add_answers(page: Page, evidence: Evidence) -> None:
    """Accuracy and noise beside speed, and who is wrong."""
    if not evidence.timed:
        return
    page.section("Accuracy beside speed", _meaning(evidence))
    for pictures in _side_by_side(evidence):
        page.figures(pictures)
    page.table(*_table(evidence))
    if wrong := _wrong(evidence):
        page.points(wrong)


def _wrong(evidence: Evidence) -> list[str]:
    """Who, at which batch sizes, and how far off."""
    sizes: dict[tuple[Competitor, str], list[str]] = {}
    for row in evidence.timed:
        if row.status == "wrong":
            sizes.setdefault((row.competitor, row.reason), []).append(str(row.batch_size))
    return [
        f"{evidence.plain_name(competitor)} at batch size {', '.join(found)}: {reason}."
        for (competitor, reason), found in sizes.items()
    ]


def _meaning(evidence: Evidence) -> str:
    said = "Outputs were looked at while they were timed. "
    if any(row.noise_ratio is not None for row in evidence.timed):
        said += (
            "The noise ratio is the distance from the reference in float64, in units of the distance that PyTorch's "
            f"own rounding in float32 has; up to {MAX_NOISE_RATIO:g} passes. "
        )
    else:
        said += "A file without a record of its own has to give the same outputs for the same samples again. "
    if _has_labels(evidence):
        return said + "Accuracy is of the labelled samples that were given; upright lines are 95 % intervals."
    return said + "No labelled samples were given (--input), so that there is no accuracy."


def _has_labels(evidence: Evidence) -> bool:
    return any(row.accuracy is not None for row in evidence.timed)


def _side_by_side(evidence: Evidence) -> list[list[tuple[str, str]]]:
    """By batch size where each has two pictures, else the two batch sizes."""
    found = [list(_pictures(evidence, size)) for size in evidence.extremes]
    if all(len(pictures) <= 1 for pictures in found):
        found = [[picture for pictures in found for picture in pictures]]
    return [pictures for pictures in found if pictures]


def _pictures(evidence: Evidence, batch_size: int) -> Iterator[tuple[str, str]]:
    rows = {row.competitor: row for row in evidence.at(batch_size) if row.latency}
    x_label = f"median ms at batch size {batch_size}"
    if _has_labels(evidence):
        points = {name: (x, y * 100) for name, (x, y) in _points(evidence, rows, "accuracy").items()}
        errors = {
            evidence.name(competitor): _interval_percent(row) for competitor, row in rows.items() if row.num_labelled
        }
        yield (
            f"Accuracy, batch size {batch_size}",
            scatter(points, x_label=x_label, y_label="accuracy, %", errors=errors),
        )
    points = _points(evidence, rows, "noise_ratio")
    known = [y for _, y in points.values() if math.isfinite(y) and y > 0]
    if known:
        picture = scatter(points, x_label=x_label, y_label="noise ratio", log_y=max(known) > LONG * min(known))
        yield f"Noise ratio, batch size {batch_size}", picture


def _interval_percent(row: Row) -> tuple[float, float]:
    low, high = wilson_interval(row.num_correct, row.num_labelled)
    return 100 * low, 100 * high


def _points(evidence: Evidence, rows: dict[Competitor, Row], name: str) -> dict[str, tuple[float, float]]:
    """All competitors, so that each keeps its colour; NaN for those that are not there."""
    points = {}
    for competitor in evidence.competitors:
        row = rows.get(competitor)
        value = getattr(row, name) if row else None
        x = row.latency.median if row and row.latency else math.nan
        points[evidence.name(competitor)] = (x, math.nan if value is None else float(value))
    return points


def _table(evidence: Evidence) -> tuple[list[str], list[list[str]]]:
    """A line a competitor, its worst batch size; columns that nobody has are left out."""
    table = [_cells(competitor, evidence.of(competitor), evidence) for competitor in evidence.competitors]
    if len({competitor.target for competitor in evidence.competitors}) == 1:
        said = f"largest difference from {evidence.plain_name(evidence.competitors[0])}"
        table = [{said if key == DIFFERENCE else key: cell for key, cell in cells.items()} for cells in table]
    columns = [name for name in table[0] if any(cells[name] for cells in table)]
    return columns, [[cells[name] or "–" for name in columns] for cells in table]


def _cells(competitor: Competitor, rows: list[Row], evidence: Evidence) -> dict[str, str]:
    noise = [row.noise_ratio for row in rows if row.noise_ratio is not None]
    first = rows[0]
    return {
        "backend": evidence.name(competitor),
        "answers": _answers(rows),
        "worst noise ratio": ratio(max(noise)) if noise else "",
        DIFFERENCE: "" if first.max_delta is None else difference(first.max_delta),
        "accuracy": "" if first.accuracy is None else f"{first.accuracy:.2%}",
        "right": f"{first.num_correct:,} of {first.num_labelled:,}" if first.num_labelled else "",
    }


def _answers(rows: list[Row]) -> str:
    statuses = {row.status for row in rows}
    return "failed" if "wrong" in statuses else IMPRECISE if IMPRECISE in statuses else "passed"
