"""Instabilities: rows that are not reproducible, and backends without figures."""

from __future__ import annotations

from onward.benchmarking.report_view import ReportView
from onward.benchmarking.row import Row
from onward.report import Page

__all__ = ["add_instabilities", "add_unavailable"]

#: Kind of instability -> (what it means, what helps or follows).
KINDS = {
    "warm-up": ("inferences still got faster when the warm-up ended", "the figures are too slow: expect better ones"),
    "rounds": ("rounds or process runs disagree", "more of them: --process-runs, --rounds"),
    "process-runs": ("processes of the same program disagree", "more of them: --process-runs"),
    "drift": ("faster or slower from the first rounds to the last", "a machine at a steady temperature and load"),
    "load": ("another program ran at the same time", "end it, or leave it a core: --threads"),
    "host": ("the hypervisor took time from this machine", "another hour, or a machine that is not shared"),
    "busy": ("keeps cores busy while idle", "it slows down whatever shares the machine with it"),
    "threads": ("leaks threads", "a long run may fail"),
}


def add_instabilities(page: Page, view: ReportView) -> None:
    """Unstable rows, by reason."""
    unstable = [row for row in view.timed if row.instabilities]
    if not view.timed:
        return
    if not unstable:
        page.section("Unstable figures", "None: rounds and process runs agree, and no other program ran.")
        return
    page.section(
        "Unstable figures",
        f"{len(unstable)} of {len(view.timed)} rows are not reproducible. A row can have several reasons.",
    )
    grouped = _group(unstable, view)
    table = [[kind, str(len(details)), *KINDS.get(kind, ("", ""))] for kind, details in grouped.items()]
    page.table(["reason", "rows", "meaning", "what helps or follows"], table)
    for kind, details in grouped.items():
        page.details(f"{kind}: {len(details)} row{'s' * (len(details) != 1)}", details)


def _group(rows: list[Row], view: ReportView) -> dict[str, list[str]]:
    """Kind -> a line for each row, the most frequent kind first."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        name = f"{view.flagged_name(row.candidate)}, batch size {row.batch_size}"
        for item in row.instabilities:
            grouped.setdefault(item.kind, []).append(f"{name}: {item.detail}")
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))


def add_unavailable(page: Page, view: ReportView) -> None:
    """Backends without figures, and why."""
    report = view.report
    table = [[view.flagged_name(row.candidate), row.status, row.reason] for row in report.rows if not row.latency] + [
        [name, "not installed", hint] for name, hint in report.missing.items()
    ]
    if table:
        page.section("Not measured")
        page.table(["backend", "status", "reason, or how to install it"], table)
