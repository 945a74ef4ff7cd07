"""Speed: throughput and ratio by batch size, and the distribution of single latencies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onward.benchmarking.report_view import ReportView, interval, milliseconds, ratio, thousands
from onward.benchmarking.row import MEASURED, Latency, Row
from onward.report import Page
from onward.report.charts import bars, lines, violin

__all__ = ["add_latencies", "add_speed"]

#: Charts side by side: the names and figures of three would be too small to read.
CHARTS_PER_LINE = 2


def add_speed(page: Page, view: ReportView) -> None:
    """Throughput and ratios as charts, and a table of all figures."""
    if not view.timed:
        return
    reference = view.flagged_name(view.report.reference)
    page.section(
        "Speed",
        f"Medians of single inferences on arrays in memory. “× {reference}” is the speed relative to {reference} on an "
        "undisturbed machine, with its 95 % interval. If the interval contains 1, neither is known to be faster.",
    )
    page.figures(list(_speed_charts(view)))
    page.table(*_table(view, reference))


def _speed_charts(view: ReportView) -> Iterator[tuple[str, str]]:
    yield "Throughput, images/s", _chart(view, _throughput(view), "images/s", log_y=True)
    ratios = _ratios(view)
    if len(view.candidates) > 1 and any(not math.isnan(value) for line in ratios.values() for value in line):
        label = f"× {view.flagged_name(view.report.reference)}"
        yield "Speed relative to the reference", _chart(view, ratios, label)


def _chart(view: ReportView, series: dict[str, list[float]], y_label: str, *, log_y: bool = False) -> str:
    """Lines; bars if there is only one batch size."""
    if len(view.batch_sizes) == 1:
        group = f"batch size {view.batch_sizes[0]}"
        shown = {name: line[0] for name, line in series.items() if not math.isnan(line[0])}
        return bars({group: shown}, y_label=y_label)
    return lines(series, x=view.batch_sizes, x_label="batch size", y_label=y_label, log_x=True, log_y=log_y)


def _throughput(view: ReportView) -> dict[str, list[float]]:
    found = {(row.candidate, row.batch_size): row.images_per_s for row in view.timed}
    return {
        view.flagged_name(candidate): [found.get((candidate, size)) or math.nan for size in view.batch_sizes]
        for candidate in view.candidates
    }


def _ratios(view: ReportView) -> dict[str, list[float]]:
    found = {(row.candidate, row.batch_size): row.ratio for row in view.timed}
    return {
        view.flagged_name(candidate): [
            value.value if (value := found.get((candidate, size))) else math.nan for size in view.batch_sizes
        ]
        for candidate in view.candidates
    }


def _table(view: ReportView, reference: str) -> tuple[list[str], list[list[str]]]:
    """For each batch size its rows, the fastest first."""
    columns = ["backend", "batch size", "median ms", "p90 ms", "p99 ms", "images/s", f"× {reference}", "95 % interval"]
    rows = [
        row for size in view.batch_sizes for row in sorted(view.rows_at(size), key=lambda row: -(row.images_per_s or 0))
    ]
    return [*columns, "figures"], [_cells(row, view) for row in rows]


def _cells(row: Row, view: ReportView) -> list[str]:
    assert row.latency is not None
    is_reference = row.candidate == view.report.reference
    return [
        view.flagged_name(row.candidate),
        str(row.batch_size),
        *map(milliseconds, (row.latency.median, row.latency.p90, row.latency.p99)),
        thousands(row.images_per_s),
        ratio(row.ratio.value if row.ratio else None),
        "reference" if is_reference else interval(row.ratio),
        _status(row),
    ]


def _status(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    stability = "stable" if row.is_stable else "unstable"
    return stability if row.status == MEASURED else f"{row.status}, {stability}"


def add_latencies(page: Page, view: ReportView) -> None:
    """A chart for each batch size, and one of the slowest inferences."""
    if not view.timed:
        return
    page.section(
        "Latency of single inferences",
        "The outline shows the density of latencies from p1 to p99, and the thick bar spans p25 to p75. The dot is the "
        "median, the short tick p90, the long tick p99. The slowest 1 % are not drawn.",
    )
    charts = list(_distributions(view))
    if len(charts) % CHARTS_PER_LINE:  # a chart alone in its line is drawn too large; the table has p99, too
        charts += _tails(view)
    for at in range(0, len(charts), CHARTS_PER_LINE):
        page.figures(charts[at : at + CHARTS_PER_LINE])


def _distributions(view: ReportView) -> Iterator[tuple[str, str]]:
    for size in view.batch_sizes:
        found = {row.candidate: row.latency.percentiles for row in view.rows_at(size) if row.latency}
        rows: dict[str, Mapping[int, float]] = {
            view.flagged_name(candidate): found.get(candidate, {}) for candidate in view.candidates
        }
        yield f"Batch size {size}", violin(rows, x_label="ms")


def _tails(view: ReportView) -> Iterator[tuple[str, str]]:
    sizes = view.batch_sizes
    if len(sizes) < 2:
        return
    found = {(row.candidate, row.batch_size): row.latency for row in view.timed}
    tails = {
        view.flagged_name(candidate): [_tail(found.get((candidate, size))) for size in sizes]
        for candidate in view.candidates
    }
    chart = lines(tails, x=sizes, x_label="batch size", y_label="p99 / median", log_x=True)
    yield "The slowest inferences: p99 over the median", chart


def _tail(latency: Latency | None) -> float:
    """How many times as long as the median 1 % of the inferences take at least."""
    return latency.p99 / latency.median if latency and latency.median else math.nan
