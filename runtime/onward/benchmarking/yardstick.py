"""Yardstick: what a row's latency is held against, launch by launch, because a machine's level moves.

The reference's latency in the same rounds where both reports have one; else a fixed piece of work's before each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onward.benchmarking.competitor import Competitor
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.intervals import Launches, side_by_side

__all__ = [
    "LEVEL",
    "Identity",
    "beside_level",
    "beside_row",
    "identify",
    "is_of_several",
    "reference_row",
]

#: The name of the yardstick that is no competitor.
LEVEL = "level"
#: Target (empty where there is but one), backend, provider, threads: what it is recognized by in another report.
Identity = tuple[str, str, str, int]


def is_of_several(report: Report) -> bool:
    """Whether it is of several targets, so that a row is not known without its own."""
    return len({row.competitor.target for row in report.rows}) > 1


def identify(competitor: Competitor, *, by_target: bool) -> Identity:
    """What it is called in any report; one target alone may lie anywhere, e.g. in another checkout."""
    target = competitor.target if by_target else ""
    return target, competitor.backend, competitor.provider, competitor.threads


def reference_row(report: Report, batch_size: int) -> Row | None:
    """The reference's row at a batch size; None where it was not measured at that."""
    found = (row for row in report.rows if row.competitor == report.reference and row.batch_size == batch_size)
    return next((row for row in found if row.is_right and row.rounds_ms), None)


def beside_row(row: Row, reference: Row) -> Launches:
    """Latencies of the rounds that both have."""
    return side_by_side(row.rounds_ms, reference.rounds_ms)


def beside_level(row: Row, levels_ms: Sequence[Mapping[int, Sequence[float]]]) -> Launches:
    """Latencies, and the machine's level, of the rounds that have one."""
    return side_by_side(row.rounds_ms, [launch.get(row.batch_size, ()) for launch in levels_ms])
