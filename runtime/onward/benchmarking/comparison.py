"""Comparison: one row of a report beside the same row of an older one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onward.benchmarking.competitor import Competitor
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.benchmarking.yardstick import LEVEL, beside_level, beside_row, reference_row
from onward.intervals import Interval, Launches, change_interval, level_of

__all__ = ["VERDICTS", "Comparison", "compare_rows"]

#: Verdict -> for people.
VERDICTS = {
    "worse": "WORSE",
    "better": "better",
    "same": "not worse",
    "noisy": "too noisy to tell",
    "gone": "gone",
    "new": "new",
}
#: Instabilities that an interval of rounds and launches does not have in it already.
OUTER_INSTABILITIES = ("load", "host", "drift", "warm-up")


@dataclass(frozen=True)
class Comparison:
    """One row, before and after.

    Args:
        competitor: As the newer report calls it, or the older, if the row is gone.
        batch_size: Samples an inference; 0 for one that was never timed.
        verdict: Of `VERDICTS`.
        yardstick: What latencies are held against: a backend, `level` for the machine's level, empty for nothing.
        before: How many times as fast as the yardstick it was.
        after: And is.
        factor: Latency after over latency before, both over the yardstick's; 1.05 is 5 % slower.
        reasons: What made the verdict where no figure did, and what makes figures doubtful.
    """

    competitor: Competitor
    batch_size: int
    verdict: str
    yardstick: str = ""
    before: float | None = None
    after: float | None = None
    factor: Interval | None = None
    reasons: tuple[str, ...] = ()

    @property
    def change(self) -> Interval | None:
        """The slowdown: 0.05 is 5 % slower, -0.05 is 5 % less time."""
        factor = self.factor
        return factor and Interval(factor.value - 1, factor.low - 1, factor.high - 1)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return self.competitor.to_json() | {
            "title": self.competitor.title,
            "batch_size": self.batch_size,
            "verdict": self.verdict,
            "yardstick": self.yardstick or None,
            "before": self.before,
            "after": self.after,
            "change": self.change and self.change.to_json(),
            "reasons": list(self.reasons),
        }


def compare_rows(
    before: tuple[Report, Row], after: tuple[Report, Row], *, fail_above: float, has_one_reference: bool
) -> Comparison:
    """Judge a row that was measured in both.

    Args:
        before: The older report, and its row.
        after: The newer one, and its.
        fail_above: The slowdown that is too much.
        has_one_reference: Whether both reports have the same reference.
    """
    competitor, batch_size = after[1].competitor, after[1].batch_size
    yardstick, older, newer = _beside(before, after, has_one_reference=has_one_reference)
    doubts = (*_doubts("before", before[1]), *_doubts("after", after[1]))
    if not older or not newer:
        doubts = ("no round has anything to be held against", *doubts)
        return Comparison(competitor, batch_size, "noisy", reasons=doubts)
    factor = change_interval(older, newer)
    verdict = _verdict(factor, 1 + fail_above)
    speeds = 1 / level_of(older), 1 / level_of(newer)
    return Comparison(competitor, batch_size, verdict, yardstick, *speeds, factor, doubts)


def _beside(
    before: tuple[Report, Row], after: tuple[Report, Row], *, has_one_reference: bool
) -> tuple[str, Launches, Launches]:
    """By which yardstick, and the launches of both."""
    (old_report, old), (new_report, new) = before, after
    references = reference_row(old_report, old.batch_size), reference_row(new_report, new.batch_size)
    if has_one_reference and references[0] and references[1] and new.competitor != new_report.reference:
        backend = new_report.reference.backend
        return backend, beside_row(old, references[0]), beside_row(new, references[1])
    return LEVEL, beside_level(old, old_report.levels_ms), beside_level(new, new_report.levels_ms)


def _verdict(factor: Interval, limit: float) -> str:
    if factor.low > limit:
        return "worse"
    if factor.high < 1:
        return "better"
    return "same" if factor.high <= limit else "noisy"


def _doubts(when: str, row: Row) -> tuple[str, ...]:
    return tuple(f"{when}: {item.detail}" for item in row.instabilities if item.kind in OUTER_INSTABILITIES)
