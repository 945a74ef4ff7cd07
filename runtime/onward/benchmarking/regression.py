"""Regression: whether anything is slower than in an older report, row by row, and whether that can be told at all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onward.backends import BACKENDS
from onward.benchmarking.candidate import Candidate, shortest_paths
from onward.benchmarking.report import Report
from onward.benchmarking.row import Row
from onward.benchmarking.row_change import SPEED_PROBE, VERDICTS, RowChange, compare_rows
from onward.bundle.trust import SKIPPED
from onward.errors import UsageError
from onward.statistics import Interval

__all__ = ["RegressionGate", "compare_reports", "parse_percentage"]

#: Options that two comparable reports may differ in.
IGNORED_OPTIONS = ("batch_sizes", "seed", "timeout_s")
#: Identifies a candidate in any report: target (empty if a report has only one), backend, provider, threads,
#: artifact.
CandidateKey = tuple[str, str, str, int, str]
#: Identifies a row in any report: candidate and batch size.
RowKey = tuple[CandidateKey, int]


@dataclass(frozen=True)
class RegressionGate:
    """What two reports say about a build.

    Args:
        fail_above: The smallest slowdown that is a regression; 0.05 is 5 %.
        changes: In the order of the newer report; rows that are gone come last.
        remarks: What else differs between the two benchmarks, a line each.
    """

    fail_above: float
    changes: tuple[RowChange, ...]
    remarks: tuple[str, ...] = ()

    @property
    def num_compared(self) -> int:
        """Number of rows that are in both reports."""
        return sum(item.verdict not in ("new", "gone") for item in self.changes)

    def exit_code(self, strict: bool = False) -> int:
        """1 if any row is worse, or if no row could be compared: such a gate would pass everything. Else 0.

        Args:
            strict: Return 1 also if a row is too noisy to tell, or gone.
        """
        bad = ("worse", "noisy", "gone") if strict else ("worse",)
        return int(not self.num_compared or any(item.verdict in bad for item in self.changes))

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return {
            "fail_above": self.fail_above,
            "worse": any(item.verdict == "worse" for item in self.changes),
            "num_compared": self.num_compared,
            "changes": [item.to_json() for item in self.changes],
            "remarks": list(self.remarks),
        }

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows, as `onward.cli.console.print_table` takes them."""
        has_threads = len({item.candidate.threads for item in self.changes}) > 1
        columns = [">batch", "backend", *([">threads"] if has_threads else []), ">before ×", ">after ×", "of"]
        return [*columns, ">latency", ">95 %", ""], [
            [str(item.batch_size or ""), self._name(item.candidate)]
            + ([str(item.candidate.threads)] if has_threads else [])
            + [_speed(item.before), _speed(item.after), _title(item.normalised_by), *_percentages(item.change)]
            + [VERDICTS[item.verdict]]
            for item in self.changes
        ]

    def lines(self) -> list[str]:
        """What the table has no room for, a line each."""
        reasons = [
            f"{self._name(item.candidate)}, batch {item.batch_size}: {'; '.join(item.reasons)}"
            for item in self.changes
            if item.reasons
        ]
        return [*reasons, *self.remarks]

    def _name(self, candidate: Candidate) -> str:
        targets = shortest_paths({item.candidate.target for item in self.changes if item.verdict != "gone"})
        target = targets.get(candidate.target, candidate.target)
        return f"{target}: {candidate.title}" if len(targets) > 1 else candidate.title


def compare_reports(before: Report, after: Report, *, fail_above: float) -> RegressionGate:
    """Compare every row of a report with the same row of an older one.

    A row is `worse` if the 95 % interval of its slowdown lies above `fail_above`, or if it was measured before and
    now fails or is wrong; `better` if the interval lies below 0; `same` if it does not reach above `fail_above`; else
    `noisy`. Error rates per row, where the interval has its nominal coverage (`change_interval` has the measured one):

        slower by exactly `fail_above`      called worse 1 time in 40, and same 1 time in 40
        not slower                          called worse far less often: in none of 20,000 simulated pairs at 5 %, with
                                            3 process runs of 7 rounds that differ by 1 % and 2 %
        slower by twice `fail_above`, 5 %   called worse in 87 % of these, else noisy
        unchanged                           called better at most 1 time in 40, so in a report of many rows some are

    Args:
        before: The baseline.
        after: The report to judge.
        fail_above: 0.05 is 5 %.
    """
    by_target = _has_several_targets(before) or _has_several_targets(after)
    changes = tuple(_compare(before, after, by_target=by_target, fail_above=fail_above))
    remarks = (*_remarks(before, after, by_target=by_target), *_remarks_on_reference(changes, after))
    return RegressionGate(fail_above, changes, remarks)


def parse_percentage(text: str) -> float:
    """`5%`, `5 %` and `0.05` are 0.05.

    Raises:
        UsageError: It is no percentage, or negative, or 1 or more without a percent sign, which is ambiguous.
    """
    found = re.fullmatch(r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(%?)\s*", text)
    value = float(found[1]) / (100 if found[2] else 1) if found else -1.0
    if found is None or (value >= 1 and not found[2]):
        raise UsageError(f"invalid percentage {text!r}: write 5% or 0.05.")
    return value


def _compare(before: Report, after: Report, *, by_target: bool, fail_above: float) -> Iterator[RowChange]:
    older, newer = _timed_rows(before, by_target=by_target), _timed_rows(after, by_target=by_target)
    failures = _new_failures(before, after, by_target=by_target)
    has_same_reference = _has_same_reference(before, after, by_target=by_target)
    for key, row in newer.items():
        old, failure = older.get(key), failures.get(key[0], "")
        if old is not None and old.status != row.status:
            failure = row.reason or failure
        if old is None or not old.is_correct:
            was = f"was {old.status} before" if old else ""
            yield RowChange(row.candidate, row.batch_size, "new", reasons=tuple(filter(None, (was, row.reason))))
        elif failure:
            yield RowChange(row.candidate, row.batch_size, "worse", reasons=(failure,))
        else:
            yield compare_rows(
                (before, old), (after, row), fail_above=fail_above, has_same_reference=has_same_reference
            )
    for key, row in older.items():
        if key not in newer and row.is_correct:
            yield _absent_row(row, failures.get(key[0], ""), after)


def _absent_row(row: Row, failure: str, after: Report) -> RowChange:
    """A row that only the older report has: it fails now, was not selected, or is not installed any more."""
    if failure:
        return RowChange(row.candidate, row.batch_size, "worse", reasons=(failure,))
    key = _candidate_key(row.candidate, by_target=False)
    missing = (
        item.reason
        for item in after.rows
        if item.status == "missing" and _candidate_key(item.candidate, by_target=False) == key
    )
    hint = after.missing.get(row.candidate.backend, SKIPPED if row.candidate.backend in after.untrusted else "")
    reason = hint or next(missing, "") or ("" if after.is_complete else "the newer benchmark was interrupted")
    return RowChange(row.candidate, row.batch_size, "gone", reasons=(reason,) if reason else ())


def _has_several_targets(report: Report) -> bool:
    return len({row.candidate.target for row in report.rows}) > 1


def _candidate_key(candidate: Candidate, *, by_target: bool) -> CandidateKey:
    """What identifies a candidate in any report; a single target may be anywhere, e.g. in another checkout."""
    target = candidate.target if by_target else ""
    return target, candidate.backend, candidate.provider, candidate.threads, candidate.artifact


def _timed_rows(report: Report, *, by_target: bool) -> dict[RowKey, Row]:
    rows = [row for row in report.rows if row.rounds_ms]
    return {(_candidate_key(row.candidate, by_target=by_target), row.batch_size): row for row in rows}


def _new_failures(before: Report, after: Report, *, by_target: bool) -> dict[CandidateKey, str]:
    """Candidates that fail now and did not before -> why."""
    failed, now = (_failures(report, by_target=by_target) for report in (before, after))
    return {key: reason for key, reason in now.items() if key not in failed}


def _failures(report: Report, *, by_target: bool) -> dict[CandidateKey, str]:
    rows = [row for row in report.rows if row.status == "failed"]
    return {_candidate_key(row.candidate, by_target=by_target): row.reason or "failed" for row in rows}


def _has_same_reference(before: Report, after: Report, *, by_target: bool) -> bool:
    first, second = (_candidate_key(report.reference, by_target=by_target) for report in (before, after))
    return first == second


def _remarks(before: Report, after: Report, *, by_target: bool) -> Iterator[str]:
    """What else differs between the two benchmarks, and may be the cause of a change."""
    if different := before.fingerprint.differences(after.fingerprint):
        yield f"another environment: {'; '.join(different)}"
    if options := _other_options(asdict(before.options), asdict(after.options)):
        yield f"other options: {'; '.join(options)}"
    if not _has_same_reference(before, after, by_target=by_target):
        pair = f"{before.reference.title} before, {after.reference.title} after"
        yield f"another reference ({pair}): rows are normalised by the speed probe"
    for when, report in (("before", before), ("after", after)):
        if not report.is_complete:
            yield f"{when}: incomplete, the benchmark was interrupted"
        if report.changed:
            yield f"{when}: {report.changed}"
        if report.options.num_process_runs == 1:
            yield f"{when}: one process run does not show how much processes differ; use 3 or more"


def _other_options(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {before[name]} → {after[name]}"
        for name in before
        if name not in IGNORED_OPTIONS and before[name] != after[name]
    ]


def _remarks_on_reference(changes: tuple[RowChange, ...], after: Report) -> Iterator[str]:
    """A reference that gets slower makes everything normalised by it look faster."""
    for item in changes:
        is_used = any(other.batch_size == item.batch_size and other.normalised_by != SPEED_PROBE for other in changes)
        if item.candidate == after.reference and item.verdict in ("worse", "better") and item.change and is_used:
            how = "slower" if item.change.value > 0 else "faster"
            yield (
                f"{item.candidate.title}, batch {item.batch_size}: the reference itself is {how} by "
                f"{abs(item.change.value):.1%}, so rows normalised by it seem to change as much in the other direction"
            )


def _title(normalised_by: str) -> str:
    return BACKENDS[normalised_by].title if normalised_by in BACKENDS else normalised_by


def _speed(speed: float | None) -> str:
    """Three significant digits: relative to the speed probe a speed may be any number."""
    return "–" if speed is None else f"{speed:.2f}" if speed >= 1 else f"{speed:.3g}"


def _percentages(change: Interval | None) -> list[str]:
    return ["–", ""] if change is None else [f"{change.value:+.1%}", f"{change.low:+.1%} to {change.high:+.1%}"]
