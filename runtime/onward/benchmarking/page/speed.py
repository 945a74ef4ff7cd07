"""Speed: throughput by batch size, and each latency beside the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onward.benchmarking.formatting import interval, milliseconds, ratio, thousands
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.row import MEASURED, Row
from onward.report import Page
from onward.report.charts import bars, lines

__all__ = ["add_speed"]


def add_speed(page: Page, evidence: Evidence) -> None:
    """Two pictures and the table behind them."""
    if not evidence.timed:
        return
    reference = evidence.name(evidence.report.reference)
    page.section(
        "Speed",
        f"Medians of single inferences, of arrays in memory. “× {reference}” is how many times as fast as {reference} "
        "where nothing disturbs either, with its 95 % interval; where that holds 1, neither is the faster one.",
    )
    page.figures(list(_pictures(evidence)))
    page.table(*_table(evidence, reference))


def _pictures(evidence: Evidence) -> Iterator[tuple[str, str]]:
    yield "Throughput, images/s", _picture(evidence, _throughput(evidence), "images/s", log_y=True)
    ratios = _ratios(evidence)
    if len(evidence.competitors) > 1 and any(not math.isnan(value) for line in ratios.values() for value in line):
        label = f"× {evidence.name(evidence.report.reference)}"
        yield "How many times as fast as the reference", _picture(evidence, ratios, label)


def _picture(evidence: Evidence, series: dict[str, list[float]], y_label: str, *, log_y: bool = False) -> str:
    """Lines, or of a single batch size bars."""
    if len(evidence.batch_sizes) == 1:
        group = f"batch size {evidence.batch_sizes[0]}"
        shown = {name: line[0] for name, line in series.items() if not math.isnan(line[0])}
        return bars({group: shown}, y_label=y_label)
    return lines(series, x=evidence.batch_sizes, x_label="batch size", y_label=y_label, log_x=True, log_y=log_y)


def _throughput(evidence: Evidence) -> dict[str, list[float]]:
    return {
        evidence.name(competitor): [evidence.figure(competitor, size, "images_per_s") for size in evidence.batch_sizes]
        for competitor in evidence.competitors
    }


def _ratios(evidence: Evidence) -> dict[str, list[float]]:
    found = {(row.competitor, row.batch_size): row.ratio for row in evidence.timed}
    return {
        evidence.name(competitor): [
            value.value if (value := found.get((competitor, size))) else math.nan for size in evidence.batch_sizes
        ]
        for competitor in evidence.competitors
    }


def _table(evidence: Evidence, reference: str) -> tuple[list[str], list[list[str]]]:
    """Batch size by batch size, the fastest first."""
    columns = ["backend", "batch size", "median ms", "p90 ms", "p99 ms", "images/s", f"× {reference}", "95 % interval"]
    rows = [
        row
        for size in evidence.batch_sizes
        for row in sorted(evidence.at(size), key=lambda row: -(row.images_per_s or 0))
    ]
    return [*columns, "figures"], [_cells(row, evidence) for row in rows]


def _cells(row: Row, evidence: Evidence) -> list[str]:
    assert row.latency is not None
    is_reference = row.competitor == evidence.report.reference
    return [
        evidence.name(row.competitor),
        str(row.batch_size),
        *map(milliseconds, (row.latency.median, row.latency.p90, row.latency.p99)),
        thousands(row.images_per_s),
        ratio(row.ratio.value if row.ratio else None),
        "reference" if is_reference else interval(row.ratio),
        _said(row),
    ]


def _said(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    stability = "stable" if row.is_stable else "unstable"
    return stability if row.status == MEASURED else f"{row.status}, {stability}"
