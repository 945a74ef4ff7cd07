"""Headline: what is the fastest here, in a sentence and four figures.

Method: how it was timed.

The page: its sections, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onward.benchmarking.formatting import difference, interval, milliseconds, ratio, seconds, thousands
from onward.benchmarking.page.answers import add_answers
from onward.benchmarking.page.cold_start import add_cold_start, add_image_files, cold_start_s
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.page.machine import add_doubts, add_machine
from onward.benchmarking.page.speed import add_latencies, add_speed
from onward.benchmarking.report import Report
from onward.benchmarking.spec import Competitor
from onward.benchmarking.summary import Row
from onward.report import Page
from onward.statistics import QUIET_PERCENT

__all__ = ["SECTIONS", "add_method", "add_tiles", "headline", "mood", "title", "write_page"]


#: More models than this are counted.
MOST_NAMED = 3
Tile = tuple[str, str, str]


def title(evidence: Evidence) -> str:
    """The heading."""
    targets = list(dict.fromkeys(row.competitor.target for row in evidence.report.rows))
    if len(targets) > MOST_NAMED:
        return f"How fast {len(targets)} models run here"
    names = _listed([evidence.target(target) for target in targets])
    return f"How fast {names} {'runs' if len(targets) == 1 else 'run'} here"


def mood(evidence: Evidence) -> str:
    """`bad` where anything is wrong, failed, changed or incomplete; `good` where all is there and stable."""
    report = evidence.report
    return "bad" if report.failed or not report.is_complete else "good" if report.is_strictly_good else ""


def headline(evidence: Evidence) -> str:
    """The fastest at the largest batch size, how sure that is, and what is not as it should be."""
    return " ".join([_verdict(evidence), *_faults(evidence)])


def add_tiles(page: Page, evidence: Evidence) -> None:
    """The fastest single inference, the most images a second, the cold start, and how right the answers are."""
    tiles = [*_speeds(evidence), *_rightness(evidence)]
    if tiles:
        page.tiles(tiles)


def fastest(evidence: Evidence) -> list[Row]:
    """Those with right answers at the largest batch size that has any, the fastest first."""
    ranked = [evidence.ranked(batch_size) for batch_size in reversed(evidence.batch_sizes)]
    return next((rows for rows in ranked if rows), [])


def _verdict(evidence: Evidence) -> str:
    if not evidence.timed:
        return "Nothing was timed."
    ranked = fastest(evidence)
    if not ranked:
        return "Nothing that was timed gives right answers."
    best = ranked[0]
    size = f"batch size {best.batch_size}"
    speed = f"{thousands(best.images_per_s)} images/s"
    if len(evidence.competitors) == 1:
        return f"{evidence.name(best.competitor)} alone was timed: {speed} at {size}; {_stability(evidence)}."
    return (
        f"{evidence.name(best.competitor)} is the fastest at {size}: {speed}{_lead(evidence, best)}"
        f"{_peers(evidence, ranked)}; {_stability(evidence)}."
    )


def _lead(evidence: Evidence, best: Row) -> str:
    reference = evidence.report.reference
    if best.competitor == reference:
        return "; it is the reference itself"
    if best.ratio is None:
        return f", with nothing to compare it with: {evidence.name(reference)} was not timed"
    return (
        f", {ratio(best.ratio.value)} times as fast as {evidence.name(reference)} "
        f"(95 % interval {interval(best.ratio)})"
    )


def _peers(evidence: Evidence, ranked: Sequence[Row]) -> str:
    """Those whose intervals reach into the fastest's: another run may have them in another order."""
    best = ranked[0].ratio
    peers = [row.competitor for row in ranked[1:] if best and row.ratio and row.ratio.high >= best.low]
    return f"; {_listed([evidence.name(peer) for peer in peers])} may be as fast" if peers else ""


def _stability(evidence: Evidence) -> str:
    unstable = sum(not row.is_stable for row in evidence.timed)
    if not unstable:
        return "all figures are stable"
    if unstable == len(evidence.timed):
        return "no figure is stable"
    return f"{unstable} of {len(evidence.timed)} rows {'is' if unstable == 1 else 'are'} not stable"


def _faults(evidence: Evidence) -> Iterator[str]:
    report = evidence.report
    if evidence.wrong:
        yield f"Wrong answers: {_names(evidence, evidence.wrong)}."
    if evidence.failed:
        yield f"Failed: {_names(evidence, evidence.failed)}."
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "The run was ended early: this is what there was."


def _speeds(evidence: Evidence) -> Iterator[Tile]:
    if evidence.batch_sizes and (first := evidence.ranked(evidence.batch_sizes[0])):
        assert first[0].latency is not None
        what = f"at batch size {first[0].batch_size}, the fastest: {evidence.name(first[0].competitor)}"
        yield f"{milliseconds(first[0].latency.median)} ms", what, ""
    right = [row for row in evidence.timed if row.is_right]
    if right:
        most = max(right, key=lambda row: row.images_per_s or 0)
        what = f"the most, at batch size {most.batch_size}: {evidence.name(most.competitor)}"
        yield f"{thousands(most.images_per_s)} images/s", what, ""
        best = fastest(evidence)[0].competitor
        if cold := cold_start_s(evidence, best):
            yield f"{seconds(cold)} s", f"from nothing to the first answer: {evidence.name(best)}", ""


def _rightness(evidence: Evidence) -> Iterator[Tile]:
    """The worst noise ratio, or of files that have no record the largest difference."""
    mood = "bad" if evidence.wrong else "good"
    noise = {row.noise_ratio: row for row in evidence.timed if row.noise_ratio is not None}
    deltas = {row.max_delta: row for row in evidence.timed if row.max_delta is not None}
    if noise:
        worst = max(noise)
        name = evidence.name(noise[worst].competitor)
        yield ratio(worst), f"worst noise ratio (1 is PyTorch's own rounding): {name}", mood
    elif deltas and len(evidence.competitors) > 1:
        worst = max(deltas)
        yield difference(worst), f"largest relative difference: {evidence.name(deltas[worst].competitor)}", mood


def _names(evidence: Evidence, competitors: Sequence[Competitor]) -> str:
    return _listed([evidence.plain_name(competitor) for competitor in competitors])


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


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


#: What the page is made of. A section adds itself, or nothing where it has nothing to say.
SECTIONS: tuple[Callable[[Page, Evidence], None], ...] = (
    add_tiles,
    add_speed,
    add_latencies,
    add_answers,
    add_cold_start,
    add_image_files,
    add_doubts,
    add_method,
    add_machine,
)


def write_page(path: Path, report: Report) -> None:
    """Write the page: one file that needs no network. The same report gives the same bytes.

    Args:
        path: Where to.
        report: Complete, or what there was when it was ended early.

    Raises:
        OutputError: The place cannot be written to, or is full.
    """
    evidence = Evidence(report)
    page = Page(title(evidence), headline(evidence), mood=mood(evidence))
    for add_section in SECTIONS:
        add_section(page, evidence)
    found = report.fingerprint
    versions = ", ".join(f"{package} {version}" for package, version in found.packages.items())
    page.footer(f"{versions}, Python {found.python}. Timed at {found.time}. This file needs no network.")
    page.write(path)
