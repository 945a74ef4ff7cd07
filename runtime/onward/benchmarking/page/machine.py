"""Machine: what it was timed on, and how steady that was."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from statistics import median

from onward.benchmarking.page.evidence import Evidence
from onward.host.fingerprint import Fingerprint
from onward.report import Page
from onward.report.charts import lines

__all__ = ["add_machine"]


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
