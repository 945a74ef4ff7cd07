"""Method: how it was timed."""

from __future__ import annotations

from onward.benchmarking.formatting import thousands
from onward.benchmarking.page.evidence import Evidence
from onward.intervals import QUIET_PERCENT
from onward.report import Page

__all__ = ["add_method"]

METHOD = (
    "Each competitor runs in processes of its own, started anew for each launch; in each round every one of them has a "
    "turn, in an order that is drawn anew, while the others stand still. Warm-up inferences are not timed; they end "
    "when they get no faster."
)
INTERVALS = (
    "A ratio is the reference's quiet level over the competitor's, the geometric mean over launches: the latency that "
    f"{QUIET_PERCENT} % of a turn's inferences stay below, and of these what {QUIET_PERCENT} % of a launch's turns do. "
    "Neighbours on a shared machine make everything slower for a while, and nothing faster. The 95 % interval is "
    "Student's, over launches, because rounds of one process resemble one another."
)


def add_method(page: Page, evidence: Evidence) -> None:
    """Two sentences each, and the options."""
    page.section("How it was measured", METHOD)
    page.points([INTERVALS])
    page.table(["option", "value"], _options(evidence))


def _options(evidence: Evidence) -> list[list[str]]:
    options = evidence.report.options
    inferences = [row.num_inferences for row in evidence.timed]
    warm_up = [row.num_warm_up for row in evidence.timed]
    threads = sorted({row.competitor.threads for row in evidence.report.rows})
    return [
        ["batch sizes", ", ".join(map(str, options.batch_sizes))],
        ["launches × rounds", f"{options.num_launches} × {options.num_rounds}"],
        ["threads of an inference", ", ".join(map(str, threads))],
        ["a turn", f"lasts at least {options.turn_s * 1e3:g} ms"],
        ["timed inferences of a row", _range(inferences)],
        ["warm-up inferences of a launch", _range(warm_up)],
        ["a warm-up", f"lasts at most {options.max_warm_up_s:g} s"],
        ["seed", str(options.seed)],
    ]


def _range(counts: list[int]) -> str:
    """From the fewest to the most."""
    if not counts:
        return "–"
    low, high = thousands(min(counts)), thousands(max(counts))
    return low if low == high else f"{low} to {high}"
