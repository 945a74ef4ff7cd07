"""Speed: throughput by batch size, and each latency beside the reference's.

Latencies: how far single inferences lie from the median.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onward.benchmarking.formatting import interval, milliseconds, ratio, thousands
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.summary import MEASURED, Latency, Row
from onward.report import Page
from onward.report.charts import bars, lines, spans

__all__ = ["add_latencies", "add_speed"]


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


#: Pictures side by side: names and figures of three would be too small to read.
PER_LINE = 2


def add_latencies(page: Page, evidence: Evidence) -> None:
    """A picture a batch size, and one of their tails."""
    if not evidence.timed:
        return
    page.section(
        "Latency of single inferences",
        "The outline is how dense the latencies lie from p1 to p99, the thick bar reaches from p25 to p75, the dot is "
        "the median; a short tick stands at p90, a long one at p99. The slowest one of a hundred lies beyond.",
    )
    pictures = list(_distributions(evidence))
    if len(pictures) % PER_LINE:  # a picture alone in its line is drawn too large; the table has p99, too
        pictures += _tails(evidence)
    for at in range(0, len(pictures), PER_LINE):
        page.figures(pictures[at : at + PER_LINE])


def _distributions(evidence: Evidence) -> Iterator[tuple[str, str]]:
    for size in evidence.batch_sizes:
        found = {row.competitor: row.latency.percentiles for row in evidence.at(size) if row.latency}
        rows: dict[str, Mapping[int, float]] = {
            evidence.name(competitor): found.get(competitor, {}) for competitor in evidence.competitors
        }
        yield f"Batch size {size}", spans(rows, x_label="ms")


def _tails(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """How many times as long as usual one inference of a hundred takes."""
    sizes = evidence.batch_sizes
    if len(sizes) < 2:
        return
    found = {(row.competitor, row.batch_size): row.latency for row in evidence.timed}
    tails = {
        evidence.name(competitor): [_tail(found.get((competitor, size))) for size in sizes]
        for competitor in evidence.competitors
    }
    picture = lines(tails, x=sizes, x_label="batch size", y_label="p99 / median", log_x=True)
    yield "The slow ones: p99 over the median", picture


def _tail(latency: Latency | None) -> float:
    return latency.p99 / latency.median if latency and latency.median else math.nan
