"""Yardstick: what a row's latency is held against, round by round, because a machine's level moves.

The reference's latency of the same round where both reports have one; else what a fixed piece of work took just before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.bench.competitor import Competitor
from runtime.bench.report import Report
from runtime.bench.row import Row

__all__ = [
    "LEVEL",
    "Identity",
    "Rounds",
    "identify",
    "is_of_several",
    "reference_row",
    "relative_to_level",
    "relative_to_row",
]

#: The name of the yardstick that is no competitor.
LEVEL = "level"
#: Target (empty where there is but one), backend, provider, threads: what it is recognized by in another report.
Identity = tuple[str, str, str, int]
Rounds = list[list[float]]


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


def relative_to_row(row: Row, reference: Row) -> Rounds:
    """Launch -> round -> latency over the reference's, of the rounds that both have."""
    return _over(row.rounds_ms, reference.rounds_ms)


def relative_to_level(row: Row, levels_ms: Sequence[Mapping[int, Sequence[float]]]) -> Rounds:
    """Launch -> round -> latency over the machine's level, of the rounds that have one."""
    return _over(row.rounds_ms, [launch.get(row.batch_size, ()) for launch in levels_ms])


def _over(numerators: Sequence[Sequence[float]], denominators: Sequence[Sequence[float]]) -> Rounds:
    launches = (
        [own / other for own, other in zip(mine, theirs, strict=False)]  # one that failed, or was stopped, has fewer
        for mine, theirs in zip(numerators, denominators, strict=False)
    )
    return [launch for launch in launches if launch]
