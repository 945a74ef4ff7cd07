"""Row change: a row beside the same row of an older report.

A machine's speed moves, so milliseconds of two reports cannot be compared. Each latency is normalised within its own
process run: by the reference's latency if both reports have the same reference, else by the speed probe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.statistics import Interval, PairedRounds, change_interval, mean_ratio, pair_rounds

__all__ = ["SPEED_PROBE", "VERDICTS", "RowChange", "compare_rows"]

#: What `normalised_by` is called if it is no backend.
SPEED_PROBE = "speed probe"
#: Verdict -> for people.
VERDICTS = {
    "worse": "WORSE",
    "better": "better",
    "same": "not worse",
    "noisy": "too noisy to tell",
    "gone": "gone",
    "new": "new",
}
#: Kinds of instability that the interval over process runs does not include.
EXTERNAL_INSTABILITIES = ("load", "host", "drift", "warm-up")


@dataclass(frozen=True)
class RowChange:
    """One row, before and after.

    Args:
        candidate: As the newer report names it; as the older one does if the row is gone.
        batch_size: Inputs per inference; 0 if none was timed.
        verdict: One of `VERDICTS`.
        normalised_by: What latencies are divided by: a backend, or `speed probe`; empty for nothing.
        before: Speed before, relative to that.
        after: Speed after, relative to that.
        factor: Normalised latency after over before; 1.05 is 5 % slower.
        reasons: Why the verdict is not based on figures, or why the figures may be unreliable.
    """

    candidate: Candidate
    batch_size: int
    verdict: str
    normalised_by: str = ""
    before: float | None = None
    after: float | None = None
    factor: Interval | None = None
    reasons: tuple[str, ...] = ()

    @property
    def change(self) -> Interval | None:
        """The slowdown: 0.05 is 5 % slower, -0.05 takes 5 % less time."""
        factor = self.factor
        return factor and Interval(factor.value - 1, factor.low - 1, factor.high - 1)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return self.candidate.to_json() | {
            "title": self.candidate.title,
            "batch_size": self.batch_size,
            "verdict": self.verdict,
            "normalised_by": self.normalised_by or None,
            "before": self.before,
            "after": self.after,
            "change": self.change and self.change.to_json(),
            "reasons": list(self.reasons),
        }


def compare_rows(
    before: tuple[Report, Row], after: tuple[Report, Row], *, fail_above: float, has_same_reference: bool
) -> RowChange:
    """Compare a row that was measured in both reports.

    Args:
        before: The older report and its row.
        after: The newer report and its row.
        fail_above: The smallest slowdown that is a regression.
        has_same_reference: Whether both reports have the same reference.
    """
    candidate, batch_size = after[1].candidate, after[1].batch_size
    normalised_by, older, newer = _normalise(before, after, has_same_reference=has_same_reference)
    reasons = (*_external_instabilities("before", before[1]), *_external_instabilities("after", after[1]))
    if not older or not newer:
        reasons = ("no round has a speed to normalise by", *reasons)
        return RowChange(candidate, batch_size, "noisy", reasons=reasons)
    factor = change_interval(older, newer)
    speeds = 1 / mean_ratio(older), 1 / mean_ratio(newer)
    return RowChange(candidate, batch_size, _verdict(factor, 1 + fail_above), normalised_by, *speeds, factor, reasons)


def _normalise(
    before: tuple[Report, Row], after: tuple[Report, Row], *, has_same_reference: bool
) -> tuple[str, PairedRounds, PairedRounds]:
    """What latencies are normalised by, and both sides' latencies paired with it."""
    references = [_reference_row(report, row.batch_size) for report, row in (before, after)]
    report, row = after
    if has_same_reference and all(references) and row.candidate != report.reference:
        older, newer = (
            pair_rounds(row.rounds_ms, reference.rounds_ms)
            for (_, row), reference in zip((before, after), references, strict=True)
            if reference
        )
        return report.reference.backend, older, newer
    older, newer = (_pair_with_probe(row, report.speed_probe_ms) for report, row in (before, after))
    return SPEED_PROBE, older, newer


def _reference_row(report: Report, batch_size: int) -> Row | None:
    """The reference's row at a batch size; None if it has no correct one."""
    found = (row for row in report.rows if row.candidate == report.reference and row.batch_size == batch_size)
    return next((row for row in found if row.is_correct and row.rounds_ms), None)


def _pair_with_probe(row: Row, speed_probe_ms: Sequence[Mapping[int, Sequence[float]]]) -> PairedRounds:
    return pair_rounds(row.rounds_ms, [process_run.get(row.batch_size, ()) for process_run in speed_probe_ms])


def _verdict(factor: Interval, limit: float) -> str:
    if factor.low > limit:
        return "worse"
    if factor.high < 1:
        return "better"
    return "same" if factor.high <= limit else "noisy"


def _external_instabilities(when: str, row: Row) -> tuple[str, ...]:
    return tuple(f"{when}: {item.detail}" for item in row.instabilities if item.kind in EXTERNAL_INSTABILITIES)
