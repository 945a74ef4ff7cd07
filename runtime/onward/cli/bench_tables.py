"""Bench tables: the answer of `onward bench` as tables and lines, for a terminal or a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from onward.benchmarking.report_view import ReportView, interval, milliseconds, ratio, seconds, thousands
from onward.cli.console import print_table, say
from onward.cli.markdown import Table

if TYPE_CHECKING:
    from onward.benchmarking.regression import RegressionGate
    from onward.benchmarking.report import Report
    from onward.benchmarking.row import Row

__all__ = ["gate_parts", "print_parts", "report_parts"]

#: Rows that are listed for each kind of instability; the others are counted.
NUM_LISTED = 3


def report_parts(report: Report) -> Iterator[Table | str]:
    """The tables, and a line for everything that is unstable, wrong or missing."""
    view = ReportView(report)
    if view.timed:
        yield _speed_table(view)
        yield _cold_start_table(view)
    if report.end_to_end:
        yield _files_table(view)
    yield from _remarks(view)


def gate_parts(gate: RegressionGate, baseline: str) -> Iterator[Table | str]:
    """How each row changed since the baseline."""
    yield f"compared with {baseline}:"
    yield gate.table()
    yield from gate.lines()


def print_parts(parts: Iterable[Table | str]) -> None:
    """Print tables and lines to standard output."""
    for part in parts:
        if isinstance(part, str):
            say(part)
        else:
            print_table(*part)


def _speed_table(view: ReportView) -> Table:
    has_accuracy = any(row.accuracy is not None for row in view.timed)
    # with accuracies there is no room for p90; the page and --json have it
    columns = [">batch", "backend", ">median ms", *([] if has_accuracy else [">p90"]), ">p99", ">images/s"]
    columns += [f">× {view.name(view.report.reference)}", ">95 %", ">noise ratio"]
    columns += [">accuracy", ""] if has_accuracy else [""]
    return columns, [_speed_cells(row, view, has_accuracy) for row in view.timed]


def _speed_cells(row: Row, view: ReportView, has_accuracy: bool) -> list[str]:
    latency = row.latency
    assert latency is not None
    return [
        str(row.batch_size),
        view.name(row.candidate),
        milliseconds(latency.median),
        *([] if has_accuracy else [milliseconds(latency.p90)]),
        milliseconds(latency.p99),
        thousands(row.images_per_s),
        ratio(row.ratio.value if row.ratio else None),
        interval(row.ratio),
        ratio(row.noise_ratio),
        *([] if not has_accuracy else ["–" if row.accuracy is None else f"{row.accuracy:.2%}"]),
        _verdict(row),
    ]


def _verdict(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    words = {"imprecise": row.status == "imprecise", "unstable": not row.is_stable}
    return ", ".join(word for word, holds in words.items() if holds)


def _cold_start_table(view: ReportView) -> Table:
    columns = ["cold start", ">start s", ">import s", ">open s", ">first ms", ">sum s", ">after pause ms"]
    columns += [">new batch size ms", ">peak MiB", ">file MB"]
    return columns, [_cold_start_cells(view.rows_of(candidate), view) for candidate in view.candidates]


def _cold_start_cells(rows: list[Row], view: ReportView) -> list[str]:
    """Of one candidate, from the smallest batch size up."""
    first, stages = rows[0], rows[0].stages
    assert stages is not None
    opened = stages.process_s, stages.import_s, stages.open_s
    return [
        view.name(first.candidate),
        *map(seconds, opened),
        milliseconds(stages.first_ms),
        seconds(sum(opened) + (stages.first_ms or 0) / 1e3),
        milliseconds(stages.after_pause_ms),
        ", ".join(milliseconds(row.stages.first_ms) for row in rows[1:] if row.stages),
        thousands(max(row.peak_bytes or 0 for row in rows) / 2**20),
        "–" if first.file_bytes is None else f"{first.file_bytes / 1e6:,.1f}",
    ]


def _files_table(view: ReportView) -> Table:
    found = view.report.end_to_end
    columns = [
        f"{found[0].num_images:,} image files to a CSV",
        ">images/s",
        *(f">{stage} %" for stage in found[0].shares),
    ]
    return columns, [
        [view.name(item.candidate), thousands(item.images_per_s)]
        + [f"{100 * share:.0f}" for share in item.shares.values()]
        for item in found
    ]


def _remarks(view: ReportView) -> Iterator[str]:
    from onward.tasks.task import NO_ANSWER

    report = view.report
    for row in report.rows:
        if row.reason:
            yield f"{_row_name(row, view)}: {row.reason}"
    for row in {row.candidate: row for row in report.rows if row.num_unanswered}.values():
        yield f"{view.name(row.candidate)}: {row.num_unanswered:,} inputs without an answer, because {NO_ANSWER}"
    yield from _lower_precisions(view)
    yield from _instabilities(view)
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "incomplete: the benchmark was interrupted; the tables have what was measured until then."


def _lower_precisions(view: ReportView) -> Iterator[str]:
    """What stands for the noise ratio where a precision is lower than float32."""
    from onward.lower_precision import MAX_DEVIATION_RATIO

    for candidate in view.candidates:
        rows = [row for row in view.rows_of(candidate) if row.deviation_ratio is not None]
        if rows and all(row.is_correct for row in rows):
            worst = max(row.deviation_ratio or 0.0 for row in rows)
            yield (
                f"{view.name(candidate)}: no noise ratio, because it is {candidate.precision}. Its outputs are the "
                f"recorded ones within {ratio(worst)} times the quantisation error; at most {MAX_DEVIATION_RATIO:g} "
                f"passes."
            )


def _instabilities(view: ReportView) -> Iterator[str]:
    """For each kind, the number of its rows and the first few of them."""
    found = [(row, item) for row in view.timed for item in row.instabilities]
    for kind in dict.fromkeys(item.kind for _, item in found):
        alike = [(row, item) for row, item in found if item.kind == kind]
        yield f"unstable ({kind}), {len(alike)} of {len(view.timed)} rows:"
        yield from (f"  {_row_name(row, view)}: {item.detail}" for row, item in alike[:NUM_LISTED])
        if len(alike) > NUM_LISTED:
            yield f"  … and {len(alike) - NUM_LISTED} more"


def _row_name(row: Row, view: ReportView) -> str:
    name = view.name(row.candidate)
    return f"{name}, batch {row.batch_size}" if row.batch_size else name
