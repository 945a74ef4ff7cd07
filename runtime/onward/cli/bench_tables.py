"""The tables of `onward bench`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from onward.benchmarking.formatting import interval, milliseconds, ratio, seconds, thousands
from onward.cli.console import print_table

if TYPE_CHECKING:
    from onward.benchmarking.page.evidence import Evidence
    from onward.benchmarking.regression import Gate
    from onward.benchmarking.report import Report
    from onward.benchmarking.row import Row

__all__ = ["print_gate", "print_report"]

#: Rows that are named of those that are unstable for one reason; the rest are counted.
NUM_NAMED = 3
Table = tuple[list[str], list[list[str]]]


def print_report(report: Report) -> None:
    """The tables of `bench`, and a line for whatever is not as it should be."""
    from onward.benchmarking.page.evidence import Evidence

    evidence = Evidence(report)
    if evidence.timed:
        print_table(*_speeds(evidence))
        print_table(*_stages(evidence))
    if report.end_to_end:
        print_table(*_files(evidence))
    for line in _remarks(evidence):
        print(line)


def print_gate(gate: Gate, baseline: str) -> None:
    """What became of each row since a report of before."""
    print(f"beside {baseline}:")
    print_table(*gate.table())
    for line in gate.lines():
        print(line)


def _speeds(evidence: Evidence) -> Table:
    has_accuracy = any(row.accuracy is not None for row in evidence.timed)
    # beside accuracies there is no room for every percentile; the other reports have them
    columns = [">batch", "backend", ">median ms", *([] if has_accuracy else [">p90"]), ">p99", ">images/s"]
    columns += [f">× {evidence.plain_name(evidence.report.reference)}", ">95 %", ">noise ratio"]
    columns += [">accuracy", ""] if has_accuracy else [""]
    return columns, [_speed(row, evidence, has_accuracy) for row in evidence.timed]


def _speed(row: Row, evidence: Evidence, has_accuracy: bool) -> list[str]:
    latency = row.latency
    assert latency is not None
    return [
        str(row.batch_size),
        evidence.plain_name(row.competitor),
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


def _stages(evidence: Evidence) -> Table:
    columns = ["to the first answer", ">start s", ">import s", ">open s", ">first ms", ">sum s", ">idle gap ms"]
    columns += [">new size ms", ">peak MiB", ">file MB"]
    return columns, [_stage(evidence.of(competitor), evidence) for competitor in evidence.competitors]


def _stage(rows: list[Row], evidence: Evidence) -> list[str]:
    """Of one competitor, from the smallest batch size up."""
    first, stages = rows[0], rows[0].stages
    assert stages is not None
    opened = stages.process_s, stages.import_s, stages.open_s
    return [
        evidence.plain_name(first.competitor),
        *map(seconds, opened),
        milliseconds(stages.first_ms),
        seconds(sum(opened) + (stages.first_ms or 0) / 1e3),
        milliseconds(stages.idle_ms),
        ", ".join(milliseconds(row.stages.first_ms) for row in rows[1:] if row.stages),
        thousands(max(row.peak_bytes or 0 for row in rows) / 2**20),
        "–" if first.file_bytes is None else f"{first.file_bytes / 1e6:,.1f}",
    ]


def _files(evidence: Evidence) -> Table:
    found = evidence.report.end_to_end
    columns = [
        f"{found[0].num_images:,} image files to a CSV",
        ">images/s",
        *(f">{stage} %" for stage in found[0].shares),
    ]
    return columns, [
        [evidence.plain_name(item.competitor), thousands(item.images_per_s)]
        + [f"{100 * share:.0f}" for share in item.shares.values()]
        for item in found
    ]


def _remarks(evidence: Evidence) -> Iterator[str]:
    report = evidence.report
    for row in report.rows:
        if row.reason:
            yield f"{_where(row, evidence)}: {row.reason}"
    yield from _instabilities(evidence)
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "incomplete: the run was ended early; this is what there was."


def _instabilities(evidence: Evidence) -> Iterator[str]:
    """A line for each kind, with the rows that have it; the first few of them, where many do."""
    found = [(row, item) for row in evidence.timed for item in row.instabilities]
    for kind in dict.fromkeys(item.kind for _, item in found):
        alike = [(row, item) for row, item in found if item.kind == kind]
        yield f"unstable ({kind}), {len(alike)} of {len(evidence.timed)} rows:"
        yield from (f"  {_where(row, evidence)}: {item.detail}" for row, item in alike[:NUM_NAMED])
        if len(alike) > NUM_NAMED:
            yield f"  … and {len(alike) - NUM_NAMED} more"


def _verdict(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    words = {"imprecise": row.status == "imprecise", "unstable": not row.is_stable}
    return ", ".join(word for word, holds in words.items() if holds)


def _where(row: Row, evidence: Evidence) -> str:
    name = evidence.plain_name(row.competitor)
    return f"{name}, batch {row.batch_size}" if row.batch_size else name
