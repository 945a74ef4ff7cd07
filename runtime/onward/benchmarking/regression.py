"""Regression: whether what was timed is slower than it was, row by row, and whether that can be told at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onward.benchmarking.comparison import VERDICTS, Comparison, compare_rows
from onward.benchmarking.competitor import BACKENDS, Competitor
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.benchmarking.yardstick import LEVEL, Identity, identify, is_of_several
from onward.errors import UsageError
from onward.intervals import Interval

__all__ = ["Gate", "compare_reports", "parse_percentage"]

#: Of the options, those that two runs may have otherwise and still be alike.
HARMLESS_OPTIONS = ("batch_sizes", "seed", "timeout_s")
#: A row's place in any report.
Key = tuple[Identity, int]


@dataclass(frozen=True)
class Gate:
    """What two reports say about a build.

    Args:
        fail_above: The slowdown that is too much; 0.05 is 5 %.
        comparisons: In the order of the newer report; what is gone last.
        remarks: What else differs between the two runs, a line each.
    """

    fail_above: float
    comparisons: tuple[Comparison, ...]
    remarks: tuple[str, ...] = ()

    @property
    def num_compared(self) -> int:
        """Rows that both reports have something to say about."""
        return sum(item.verdict not in ("new", "gone") for item in self.comparisons)

    def exit_code(self, strict: bool = False) -> int:
        """0 where nothing is worse; 1 where something is, or nothing was compared: a gate in an empty wall is none.

        Args:
            strict: 1, too, where a row is too noisy to tell or gone.
        """
        bad = ("worse", "noisy", "gone") if strict else ("worse",)
        return int(not self.num_compared or any(item.verdict in bad for item in self.comparisons))

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return {
            "fail_above": self.fail_above,
            "worse": any(item.verdict == "worse" for item in self.comparisons),
            "num_compared": self.num_compared,
            "comparisons": [item.to_json() for item in self.comparisons],
            "remarks": list(self.remarks),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows, as `onward.cli.console.print_table` takes them."""
        several = len({item.competitor.threads for item in self.comparisons}) > 1
        by_target = len({item.competitor.target for item in self.comparisons if item.verdict != "gone"}) > 1
        columns = [">batch", "backend", *([">threads"] if several else []), ">before ×", ">after ×", "of"]
        return [*columns, ">latency", ">95 %", ""], [
            [str(item.batch_size or ""), _name(item.competitor, by_target=by_target)]
            + ([str(item.competitor.threads)] if several else [])
            + [_times(item.before), _times(item.after), _title(item.yardstick), *_percentages(item.change)]
            + [VERDICTS[item.verdict]]
            for item in self.comparisons
        ]

    def lines(self) -> list[str]:
        """What the table has no room for, a line each."""
        by_target = len({item.competitor.target for item in self.comparisons if item.verdict != "gone"}) > 1
        return [
            *(
                f"{_name(item.competitor, by_target=by_target)}, batch {item.batch_size}: {'; '.join(item.reasons)}"
                for item in self.comparisons
                if item.reasons
            ),
            *self.remarks,
        ]


def compare_reports(before: Report, after: Report, *, fail_above: float) -> Gate:
    """Say of every row whether it is slower than it was.

    A row is `worse` where the 95 % interval of its slowdown lies above `fail_above`, or where it was measured and now
    fails or is wrong; `better` where the interval lies below 0; `same` where it does not reach above `fail_above`; else
    `noisy`. For each row, where the interval keeps what it promises (`change_interval` has the measured coverage):

        slower by exactly `fail_above`      called worse 1 time of 40, and same 1 time of 40
        not slower                          called worse far less often: in none of 20,000 simulated pairs at 5 %, of
                                            3 launches of 7 rounds with a launch effect of 1 % and a round noise of 2 %
        slower by twice `fail_above`, 5 %   called worse in 87 % of these, else noisy
        unchanged                           called better 1 time of 40 at most: of many rows some are, by chance

    Args:
        before: The baseline.
        after: What is judged.
        fail_above: 0.05 is 5 %.
    """
    by_target = is_of_several(before) or is_of_several(after)
    comparisons = tuple(_compare(before, after, by_target=by_target, fail_above=fail_above))
    remarks = (*_remarks(before, after, by_target=by_target), *_remarks_on_reference(comparisons, after))
    return Gate(fail_above, comparisons, remarks)


def parse_percentage(text: str) -> float:
    """`5%`, `5 %` and `0.05` are 0.05.

    Raises:
        UsageError: It is none, or negative, or a number of 1 or more without a percent sign, which may mean either.
    """
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(%?)\s*", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if found is None or (value >= 1 and not found[2]):
        raise UsageError(f"{text!r} is no percentage, expected one of 0 or more such as 5% or 0.05.")
    return value


def _compare(before: Report, after: Report, *, by_target: bool, fail_above: float) -> Iterator[Comparison]:
    older, newer = _timed(before, by_target=by_target), _timed(after, by_target=by_target)
    broken = _broken(before, after, by_target=by_target)
    same = _is_one_reference(before, after, by_target=by_target)
    for key, row in newer.items():
        old, failure = older.get(key), broken.get(key[0], "")
        if old is not None and old.status != row.status:
            failure = row.reason or failure
        if old is None or not old.is_right:
            was = f"was {old.status} before" if old else ""
            yield Comparison(row.competitor, row.batch_size, "new", reasons=tuple(filter(None, (was, row.reason))))
        elif failure:
            yield Comparison(row.competitor, row.batch_size, "worse", reasons=(failure,))
        else:
            yield compare_rows((before, old), (after, row), fail_above=fail_above, has_one_reference=same)
    for key, row in older.items():
        if key not in newer and row.is_right:
            yield _lost(row, broken.get(key[0], ""), after)


def _lost(row: Row, failure: str, after: Report) -> Comparison:
    """A row that only the older report has: it fails now, or nobody asked for it, or it cannot be asked for."""
    if failure:
        return Comparison(row.competitor, row.batch_size, "worse", reasons=(failure,))
    remedy = after.missing.get(row.competitor.backend, "")
    absent = (item.reason for item in after.rows if item.status == "missing" and _is_alike(item, row))
    reason = remedy or next(absent, "") or ("" if after.is_complete else "the newer run was ended early")
    return Comparison(row.competitor, row.batch_size, "gone", reasons=(reason,) if reason else ())


def _is_alike(one: Row, other: Row) -> bool:
    return identify(one.competitor, by_target=False) == identify(other.competitor, by_target=False)


def _timed(report: Report, *, by_target: bool) -> dict[Key, Row]:
    rows = [row for row in report.rows if row.rounds_ms]
    return {(identify(row.competitor, by_target=by_target), row.batch_size): row for row in rows}


def _broken(before: Report, after: Report, *, by_target: bool) -> dict[Identity, str]:
    """Who fails now, and did not: why."""
    failed, now = (_failures(report, by_target=by_target) for report in (before, after))
    return {identity: reason for identity, reason in now.items() if identity not in failed}


def _failures(report: Report, *, by_target: bool) -> dict[Identity, str]:
    rows = [row for row in report.rows if row.status == "failed"]
    return {identify(row.competitor, by_target=by_target): row.reason or "failed" for row in rows}


def _is_one_reference(before: Report, after: Report, *, by_target: bool) -> bool:
    return identify(before.reference, by_target=by_target) == identify(after.reference, by_target=by_target)


def _remarks(before: Report, after: Report, *, by_target: bool) -> Iterator[str]:
    """What else two runs differ in, so that nobody blames the model for it."""
    if different := before.fingerprint.differences(after.fingerprint):
        yield f"another environment: {'; '.join(different)}"
    if options := _other_options(asdict(before.options), asdict(after.options)):
        yield f"other options: {'; '.join(options)}"
    if not _is_one_reference(before, after, by_target=by_target):
        pair = f"{before.reference.title} before, {after.reference.title} after"
        yield f"other references ({pair}): rows are held against the machine's level"
    for when, report in (("before", before), ("after", after)):
        if not report.is_complete:
            yield f"{when}: incomplete, the run was ended early"
        if report.changed:
            yield f"{when}: {report.changed}"
        if report.options.num_launches == 1:
            yield f"{when}: one launch does not show by how much processes differ; have 3 or more"


def _other_options(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {before[name]} → {after[name]}"
        for name in before
        if name not in HARMLESS_OPTIONS and before[name] != after[name]
    ]


def _remarks_on_reference(comparisons: tuple[Comparison, ...], after: Report) -> Iterator[str]:
    """A reference that changes moves whatever is held against it, the other way."""
    for item in comparisons:
        held = any(other.batch_size == item.batch_size and other.yardstick != LEVEL for other in comparisons)
        if item.competitor == after.reference and item.verdict in ("worse", "better") and item.change and held:
            way = "slower" if item.change.value > 0 else "faster"
            yield (
                f"{item.competitor.title}, batch {item.batch_size}: the reference itself is {way} by "
                f"{abs(item.change.value):.1%} of the machine's level; rows held against it seem to change by as much "
                "the other way"
            )


def _name(competitor: Competitor, *, by_target: bool) -> str:
    return f"{competitor.target}: {competitor.title}" if by_target else competitor.title


def _title(yardstick: str) -> str:
    return BACKENDS[yardstick].title if yardstick in BACKENDS else yardstick


def _times(speed: float | None) -> str:
    """Three digits that matter: over the level a speed may be anything."""
    return "–" if speed is None else f"{speed:.2f}" if speed >= 1 else f"{speed:.3g}"


def _percentages(change: Interval | None) -> list[str]:
    return ["–", ""] if change is None else [f"{change.value:+.1%}", f"{change.low:+.1%} to {change.high:+.1%}"]
