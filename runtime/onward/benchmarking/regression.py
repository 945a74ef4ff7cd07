"""Yardstick: what a row's latency is held against, launch by launch, because a machine's level moves.

The reference's latency in the same rounds where both reports have one; else a fixed piece of work's before each.

Comparison: one row of a report beside the same row of an older one.

Regression: whether what was timed is slower than it was, row by row, and whether that can be told at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onward.benchmarking.report import Report
from onward.benchmarking.spec import BACKENDS, Competitor
from onward.benchmarking.summary import Row
from onward.errors import UsageError
from onward.statistics import Interval, Launches, change_interval, level_of, side_by_side

__all__ = [
    "LEVEL",
    "VERDICTS",
    "Comparison",
    "Gate",
    "Identity",
    "beside_level",
    "beside_row",
    "compare_reports",
    "compare_rows",
    "identify",
    "is_of_several",
    "parse_percentage",
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
