"""Doubts: what would not be the same again, and what is not there."""

from __future__ import annotations

from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.row import Row
from onward.report import Page

__all__ = ["add_doubts"]

#: Kind of instability -> (what it is, what helps).
KINDS = {
    "warm-up": ("still getting faster when the warm-up had to end", "what is timed is too slow; expect better"),
    "rounds": ("rounds or launches disagree", "more of them: --launches, --rounds"),
    "launches": ("new processes of the same program disagree", "more launches: --launches"),
    "drift": ("faster or slower from the first rounds to the last", "a machine that is warm and at rest"),
    "load": ("something else ran at the same time", "end it, or leave it a core: --threads"),
    "host": ("the host took time from this machine", "another hour, or a machine that is not shared"),
    "busy": ("keeps cores busy while nothing is asked of it", "it slows whatever it shares a machine with"),
    "threads": ("leaves threads behind", "a leak: a long run ends badly"),
}


def add_doubts(page: Page, evidence: Evidence) -> None:
    """Unstable rows by reason, then what failed or is not installed."""
    _add_instabilities(page, evidence)
    _add_absent(page, evidence)


def _add_instabilities(page: Page, evidence: Evidence) -> None:
    unstable = [row for row in evidence.timed if row.instabilities]
    if not evidence.timed:
        return
    if not unstable:
        page.section("What is unstable", "Nothing: rounds and launches agree, and nothing else ran.")
        return
    page.section(
        "What is unstable, and why",
        f"{len(unstable)} of {len(evidence.timed)} rows would not be the same again. A row can have several reasons.",
    )
    grouped = _grouped(unstable, evidence)
    table = [[kind, str(len(details)), *KINDS.get(kind, ("", ""))] for kind, details in grouped.items()]
    page.table(["reason", "rows", "what it is", "what helps, or what it means"], table)
    for kind, details in grouped.items():
        page.details(f"{kind}: {len(details)} row{'s' * (len(details) != 1)}", details)


def _grouped(rows: list[Row], evidence: Evidence) -> dict[str, list[str]]:
    """Kind -> row by row."""
    grouped: dict[str, list[str]] = {}
    for row in rows:
        where = f"{evidence.name(row.competitor)}, batch size {row.batch_size}"
        for item in row.instabilities:
            grouped.setdefault(item.kind, []).append(f"{where}: {item.detail}")
    return dict(sorted(grouped.items(), key=lambda group: -len(group[1])))


def _add_absent(page: Page, evidence: Evidence) -> None:
    report = evidence.report
    table = [[evidence.name(row.competitor), row.status, row.reason] for row in report.rows if not row.latency] + [
        [name, "not installed", remedy] for name, remedy in report.missing.items()
    ]
    if table:
        page.section("What is not there")
        page.table(["backend", "status", "reason, or what brings it"], table)
