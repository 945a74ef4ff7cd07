"""Latencies: how far single inferences lie from the median."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.row import Latency
from onward.report import Page
from onward.report.charts import lines, spans

__all__ = ["add_latencies"]

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
