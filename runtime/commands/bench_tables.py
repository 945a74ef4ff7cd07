"""The tables of `onward bench`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.console import print_table

if TYPE_CHECKING:
    from runtime.bench.regression import Gate
    from runtime.bench.report import Report
    from runtime.bench.row import Row

__all__ = ["print_gate", "print_report"]

#: Rows that are named of those that are unstable for one reason; the rest are counted.
NUM_NAMED = 3
Table = tuple[list[str], list[list[str]]]


def print_report(report: Report) -> None:
    """The tables of `bench`."""
    rows = [row for row in report.rows if row.latency]
    print_table(*_speeds(rows, report))
    print_table(*_stages(rows, report))
    if report.end_to_end:
        print_table(*_files(report))
    for line in _remarks(report):
        print(line)


def print_gate(gate: Gate, baseline: str) -> None:
    """What became of each row since a report of before."""
    print(f"beside {baseline}:")
    print_table(*gate.table())
    for line in gate.lines():
        print(line)


def _speeds(rows: list[Row], report: Report) -> Table:
    several = _several(rows)
    has_accuracy = any(row.accuracy is not None for row in rows)
    columns = [">batch", "backend", *([">threads"] if several else []), ">median ms", ">p90", ">p99", ">images/s"]
    columns += [f">× {report.reference.title}", ">95 %", ">noise ratio", *([">accuracy"] if has_accuracy else [])]
    table = []
    for row in rows:
        latency, ratio = row.latency, row.ratio
        assert latency is not None
        table.append(
            [str(row.batch_size), _name(row, report), *([str(row.competitor.threads)] if several else [])]
            + [_ms(latency.median), _ms(latency.p90), _ms(latency.p99), f"{row.images_per_s:,.0f}"]
            + (["–", ""] if ratio is None else [f"{ratio.value:.2f}", f"{ratio.low:.2f}–{ratio.high:.2f}"])
            + ["" if row.noise_ratio is None else f"{row.noise_ratio:,.2f}"]
            + ([] if not has_accuracy else ["" if row.accuracy is None else f"{row.accuracy:.2%}"])
            + [_verdict(row)]
        )
    return [*columns, ""], table


def _stages(rows: list[Row], report: Report) -> Table:
    columns = ["to the first answer", ">start s", ">import s", ">open s", ">first ms", ">sum s", ">idle gap ms"]
    columns += [">new size ms", ">peak MiB", ">file MB"]
    table = []
    for competitor in dict.fromkeys(row.competitor for row in rows):
        own = [row for row in rows if row.competitor == competitor]
        stages = own[0].stages
        assert stages is not None
        whole = stages.process_s + stages.import_s + stages.open_s + (stages.first_ms or 0) / 1e3
        later = [_ms(row.stages.first_ms or 0) for row in own[1:] if row.stages]
        table.append(
            [_name(own[0], report), f"{stages.process_s:.2f}", f"{stages.import_s:.2f}", f"{stages.open_s:.2f}"]
            + [_ms(stages.first_ms or 0), f"{whole:.2f}", "" if stages.idle_ms is None else _ms(stages.idle_ms)]
            + [", ".join(later), f"{max(row.peak_bytes or 0 for row in own) / 2**20:,.0f}"]
            + ["" if own[0].file_bytes is None else f"{own[0].file_bytes / 1e6:,.1f}"]
        )
    return columns, table


def _files(report: Report) -> Table:
    stages = list(report.end_to_end[0].shares)
    return [
        f"{report.end_to_end[0].num_images:,} image files to a CSV",
        ">images/s",
        *(f">{one} %" for one in stages),
    ], [
        [item.competitor.title, f"{item.images_per_s:,.0f}", *(f"{100 * item.shares[one]:.0f}" for one in stages)]
        for item in report.end_to_end
    ]


def _remarks(report: Report) -> Iterator[str]:
    """Whatever is not as it should be, a line each."""
    for row in report.rows:
        if row.reason:
            yield f"{_where(row, report)}: {row.reason}"
    yield from _instabilities(report)
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "incomplete: the run was ended early; this is what there was."


def _instabilities(report: Report) -> Iterator[str]:
    """A line for each kind, with the rows that have it; the first few of them, where many do."""
    kinds = dict.fromkeys(item.kind for row in report.rows for item in row.instabilities)
    num_rows = sum(row.latency is not None for row in report.rows)
    for kind in kinds:
        found = [(row, item) for row in report.rows for item in row.instabilities if item.kind == kind]
        yield f"unstable ({kind}), {len(found)} of {num_rows} rows:"
        yield from (f"  {_where(row, report)}: {item.detail}" for row, item in found[:NUM_NAMED])
        if len(found) > NUM_NAMED:
            yield f"  … and {len(found) - NUM_NAMED} more"


def _verdict(row: Row) -> str:
    if row.status == "wrong":
        return "WRONG"
    return ", ".join(
        word for word, holds in (("imprecise", row.status == "imprecise"), ("unstable", not row.is_stable)) if holds
    )


def _where(row: Row, report: Report) -> str:
    return f"{_name(row, report)}, batch {row.batch_size}" if row.batch_size else _name(row, report)


def _name(row: Row, report: Report) -> str:
    targets = dict.fromkeys(item.competitor.target for item in report.rows)
    return row.competitor.title if len(targets) == 1 else f"{row.competitor.target}: {row.competitor.title}"


def _several(rows: list[Row]) -> bool:
    return len({row.competitor.threads for row in rows}) > 1


def _ms(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"
