"""Report view: a report's rows by candidate and batch size, names of candidates, and numbers as text."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from onward.benchmarking.candidate import Candidate, shortest_paths

if TYPE_CHECKING:
    from onward.benchmarking.report import Report
    from onward.benchmarking.row import Row
    from onward.statistics import Interval

__all__ = ["ReportView", "difference", "interval", "mebibytes", "milliseconds", "ratio", "seconds", "thousands"]

#: Characters of each end of a long target that are kept.
NUM_KEPT = 6


@dataclass(frozen=True)
class ReportView:
    """What tables and pages are made from.

    Args:
        report: The report that is shown.
    """

    report: Report

    @cached_property
    def timed(self) -> tuple[Row, ...]:
        """Rows that have a latency, including wrong ones."""
        return tuple(row for row in self.report.rows if row.latency)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """Candidates that were timed; every chart has them in this order, and so in the same colours."""
        return tuple(dict.fromkeys(row.candidate for row in self.timed))

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """From the smallest up."""
        return tuple(sorted({row.batch_size for row in self.timed}))

    @cached_property
    def extreme_batch_sizes(self) -> tuple[int, ...]:
        """The smallest and the largest batch size; one if they are equal, none if nothing was timed."""
        return tuple(dict.fromkeys((self.batch_sizes[0], self.batch_sizes[-1]))) if self.batch_sizes else ()

    @cached_property
    def wrong(self) -> tuple[Candidate, ...]:
        """Candidates with wrong outputs at some batch size."""
        return tuple(dict.fromkeys(row.candidate for row in self.report.rows if row.status == "wrong"))

    @cached_property
    def failed(self) -> tuple[Candidate, ...]:
        """Candidates that ended with an error."""
        return tuple(dict.fromkeys(row.candidate for row in self.report.rows if row.status == "failed"))

    def rows_at(self, batch_size: int) -> list[Row]:
        """Timed rows of a batch size."""
        return [row for row in self.timed if row.batch_size == batch_size]

    def rows_of(self, candidate: Candidate) -> list[Row]:
        """Timed rows of a candidate, from the smallest batch size up."""
        return sorted((row for row in self.timed if row.candidate == candidate), key=lambda row: row.batch_size)

    def ranked(self, batch_size: int) -> list[Row]:
        """Rows of a batch size with correct outputs, the fastest first."""
        return sorted((row for row in self.rows_at(batch_size) if row.is_correct), key=_median_ms)

    def name(self, candidate: Candidate) -> str:
        """The backend, with the target and the threads if the report has several."""
        return self._name(candidate, self.target(candidate.target))

    def flagged_name(self, candidate: Candidate) -> str:
        """The name for charts, which have little room, marked if its outputs are wrong."""
        name = self._name(candidate, self._shortened(candidate.target))
        return f"{name} (wrong)" if candidate in self.wrong else name

    def target(self, target: str) -> str:
        """The shortest path that distinguishes a target from the others."""
        return self._targets[target]

    @cached_property
    def _targets(self) -> dict[str, str]:
        report = self.report
        targets = {row.candidate.target for row in report.rows} | {item.candidate.target for item in report.end_to_end}
        return shortest_paths({report.reference.target, *targets})

    def _name(self, candidate: Candidate, target: str) -> str:
        name = candidate.title if len(self._targets) == 1 else f"{target}: {candidate.title}"
        if len({row.candidate.threads for row in self.report.rows}) > 1:
            name += f" ({candidate.threads} thread{'s' * (candidate.threads != 1)})"
        return name

    def _shortened(self, target: str) -> str:
        """A target's two ends, if they distinguish it from the others."""
        shortened = [_ends(self.target(other)) for other in self._targets]
        return short if shortened.count(short := _ends(self.target(target))) == 1 else self.target(target)


def _ends(text: str) -> str:
    return text if len(text) <= 2 * NUM_KEPT + 2 else f"{text[:NUM_KEPT]}…{text[-NUM_KEPT:]}"


def _median_ms(row: Row) -> float:
    return row.latency.median if row.latency else math.inf


#: Stands for a missing value.
NONE = "–"


def milliseconds(value: float | None) -> str:
    """`0.123`, `1.23`, `12.3`, `123`."""
    if value is None:
        return NONE
    decimals = 3 if value < 0.9995 else 2 if value < 9.995 else 1 if value < 99.95 else 0  # 9.996 is 10.0
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    """`1.23`, `12.3`."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def thousands(value: float | None) -> str:
    """`1.23`, `12.3`, `12,345`."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """`0.83`, `12.3`, `1,234`."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 10 else thousands(value)


def interval(found: Interval | None) -> str:
    """`1.50–2.50`."""
    return NONE if found is None else f"{ratio(found.low)}–{ratio(found.high)}"


def difference(value: float | None) -> str:
    """`2.4e-7`."""
    return NONE if value is None else f"{value:.1e}".replace("e-0", "e-") if value else "0"


def mebibytes(size_bytes: int | None) -> str:
    """`0.12`, `1,234`, without the unit."""
    return NONE if size_bytes is None else thousands(size_bytes / 2**20)
