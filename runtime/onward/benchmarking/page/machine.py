"""Doubts: what would not be the same again, and what is not there.

Machine: what it was timed on, and how steady that was.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from statistics import median

from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.summary import Row
from onward.host.fingerprint import Fingerprint
from onward.report import Page
from onward.report.charts import lines

__all__ = ["add_doubts", "add_machine"]


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


def add_machine(page: Page, evidence: Evidence) -> None:
    """The fingerprint, and the level from round to round."""
    page.section("The machine", "Figures of another machine, or of other versions, are others.")
    if pictures := [*_level(evidence), *_rounds(evidence)]:
        page.figures(pictures)
    page.table(["of the machine", "found"], [[what, found] for what, found in _fields(evidence.report.fingerprint)])


def _level(evidence: Evidence) -> Iterator[tuple[str, str]]:
    levels = [ms for launch in evidence.report.levels_ms for rounds in launch.values() for ms in rounds]
    if levels:
        moved = max(levels) / min(levels) - 1
        said = (
            f"A fixed piece of work on each core, before each round: the slowest took {moved:.0%} more than the fastest"
        )
        yield (
            said,
            lines({"level": levels}, x=range(1, len(levels) + 1), x_label="round, of all batch sizes", y_label="ms"),
        )


def _rounds(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Launch after launch, at the largest batch size."""
    size = evidence.batch_sizes[-1] if evidence.batch_sizes else 0
    found = {row.competitor: [ms for some in row.rounds_ms for ms in some] for row in evidence.at(size)}
    longest = max(map(len, found.values()), default=0)
    if longest > 1:
        series = {evidence.name(one): _relative(found.get(one, []), longest) for one in evidence.competitors}
        yield (
            f"Each round's quiet level over the median of all rounds, launch after launch, batch size {size}",
            lines(series, x=range(1, longest + 1), x_label="round", y_label="of the median"),
        )


def _relative(rounds_ms: list[float], count: int) -> list[float]:
    """Over their median; NaN for those that are missing at the end."""
    return [ms / median(rounds_ms) for ms in rounds_ms] + [nan] * (count - len(rounds_ms))


def _fields(found: Fingerprint) -> Iterator[tuple[str, str]]:
    """What is known of it, and what is not."""
    processor, cores, memory = found.processor, found.cores, found.memory
    yield "processor", processor.model or "unknown"
    yield "instructions", ", ".join(processor.features) or "unknown"
    yield "cores", cores.describe()
    yield "clock governor", processor.governor or "unknown"
    yield "boost", _said(processor.is_boosting, "on", "off")
    yield "SMT", _said(processor.has_smt, "on", "off")
    yield "virtual", _said(processor.is_virtual, "yes", "no")
    yield "memory", _gibibytes(memory.total_bytes)
    yield "memory limit", _gibibytes(memory.limit_bytes, "none")
    yield "system", f"{found.system}, {found.release}"
    yield "graphics", "; ".join(found.graphics) or "none"
    yield "load before", "unknown" if found.load is None else f"{found.load:.2f}"


def _said(fact: bool | None, yes: str, no: str) -> str:
    return "unknown" if fact is None else yes if fact else no


def _gibibytes(size_bytes: int | None, missing: str = "unknown") -> str:
    return missing if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"
