"""Evidence: a report by competitor and batch size, and what each of them is called on a page."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from onward.benchmarking.report import Report
from onward.benchmarking.spec import Competitor
from onward.benchmarking.summary import Row

__all__ = ["Evidence"]

#: Letters that are kept of each end of a long target.
KEPT = 6


@dataclass(frozen=True)
class Evidence:
    """What the sections of a page are made from.

    Args:
        report: That is shown.
    """

    report: Report

    @cached_property
    def timed(self) -> tuple[Row, ...]:
        """Rows that have a latency, wrong ones among them."""
        return tuple(row for row in self.report.rows if row.latency)

    @cached_property
    def competitors(self) -> tuple[Competitor, ...]:
        """Those that were timed at any batch size; every chart has them in this order, and so in the same colours."""
        return tuple(dict.fromkeys(row.competitor for row in self.timed))

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """From the smallest up."""
        return tuple(sorted({row.batch_size for row in self.timed}))

    @cached_property
    def extremes(self) -> tuple[int, ...]:
        """The smallest and the largest batch size, or the only one, or none."""
        return tuple(dict.fromkeys((self.batch_sizes[0], self.batch_sizes[-1]))) if self.batch_sizes else ()

    @cached_property
    def wrong(self) -> tuple[Competitor, ...]:
        """Those whose outputs are not the model's at some batch size."""
        return tuple(dict.fromkeys(row.competitor for row in self.report.rows if row.status == "wrong"))

    @cached_property
    def failed(self) -> tuple[Competitor, ...]:
        """Those that ended with an error."""
        return tuple(dict.fromkeys(row.competitor for row in self.report.rows if row.status == "failed"))

    def at(self, batch_size: int) -> list[Row]:
        """Timed rows of a batch size."""
        return [row for row in self.timed if row.batch_size == batch_size]

    def of(self, competitor: Competitor) -> list[Row]:
        """Timed rows of a competitor, from the smallest batch size up."""
        return sorted((row for row in self.timed if row.competitor == competitor), key=lambda row: row.batch_size)

    def ranked(self, batch_size: int) -> list[Row]:
        """Rows of a batch size with right answers, the fastest first."""
        return sorted((row for row in self.at(batch_size) if row.is_right), key=_median_ms)

    def figure(self, competitor: Competitor, batch_size: int, name: str) -> float:
        """An attribute of a row; NaN where there is no row, or where it lacks it."""
        found = [row for row in self.at(batch_size) if row.competitor == competitor]
        value = getattr(found[0], name) if found else None
        return math.nan if value is None else float(value)

    def name(self, competitor: Competitor) -> str:
        """What it is called, and that it is wrong."""
        return f"{self.plain_name(competitor)} (wrong)" if competitor in self.wrong else self.plain_name(competitor)

    def plain_name(self, competitor: Competitor) -> str:
        """The backend; with the target and the threads where there are several of them."""
        everyone = [row.competitor for row in self.report.rows]
        name = competitor.title
        if len({other.target for other in everyone}) > 1:
            name = f"{self._short_target(competitor.target)}: {name}"
        if len({other.threads for other in everyone}) > 1:
            name += f" ({competitor.threads} thread{'s' * (competitor.threads != 1)})"
        return name

    def target(self, target: str) -> str:
        """A target by its last part, where no other ends alike."""
        ends = [PurePath(other).name for other in {row.competitor.target for row in self.report.rows}]
        end = PurePath(target).name
        return end if end and ends.count(end) <= 1 else target

    def _short_target(self, target: str) -> str:
        """A target's two ends, where that tells it from the others: charts have little room beside their rows."""
        shortened = [_ends(self.target(other)) for other in {row.competitor.target for row in self.report.rows}]
        return short if shortened.count(short := _ends(self.target(target))) == 1 else self.target(target)


def _ends(text: str) -> str:
    return text if len(text) <= 2 * KEPT + 2 else f"{text[:KEPT]}…{text[-KEPT:]}"


def _median_ms(row: Row) -> float:
    return row.latency.median if row.latency else math.inf
