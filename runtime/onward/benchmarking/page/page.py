"""Page: the title, the headline, four key figures, and the sections in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onward.benchmarking.page.accuracy import add_accuracy
from onward.benchmarking.page.cold_start import add_cold_start, add_image_files, cold_start_s
from onward.benchmarking.page.method import add_instabilities, add_machine, add_method, add_unavailable
from onward.benchmarking.page.speed import add_latencies, add_speed
from onward.benchmarking.report import Report
from onward.benchmarking.report_view import ReportView, difference, interval, milliseconds, ratio, seconds, thousands
from onward.benchmarking.row import Row
from onward.report import Page
from onward.report.page import UNCERTAIN, Tile

__all__ = ["write_page"]

#: With more models than this, the title has their number instead of their names.
MAX_NAMED = 3


def write_page(path: Path, report: Report) -> None:
    """Write the page: one file that needs no network. The same report gives the same bytes.

    Args:
        path: Of the file.
        report: May be incomplete.

    Raises:
        OutputError: The file cannot be written.
    """
    view = ReportView(report)
    page = Page(_title(view), " ".join([_verdict(view), *_faults(view)]), mood=_mood(report))
    for add_section in SECTIONS:
        add_section(page, view)
    fingerprint = report.fingerprint
    versions = ", ".join(f"{package} {version}" for package, version in fingerprint.packages.items())
    page.footer(f"{versions}, Python {fingerprint.python}. Measured at {fingerprint.time}. This file needs no network.")
    page.write(path)


def _title(view: ReportView) -> str:
    targets = list(dict.fromkeys(row.candidate.target for row in view.report.rows))
    if len(targets) > MAX_NAMED:
        return f"Benchmark of {len(targets)} models"
    return f"Benchmark of {_join([view.target(target) for target in targets])}"


def _mood(report: Report) -> str:
    """`bad` if anything is wrong, failed, changed or incomplete; `good` if everything is measured and stable."""
    return "bad" if report.failed or not report.is_complete else "good" if report.passes_strict else ""


def _verdict(view: ReportView) -> str:
    """The fastest at the largest batch size, and how certain that is."""
    if not view.timed:
        return "Nothing was timed."
    ranked = _fastest(view)
    if not ranked:
        return "No backend has correct outputs."
    best = ranked[0]
    speed = f"{thousands(best.images_per_s)} images/s"
    if len(view.candidates) == 1:
        name = view.flagged_name(best.candidate)
        return f"Only {name} was timed: {speed} at batch size {best.batch_size}; {_stability(view)}."
    return (
        f"{view.flagged_name(best.candidate)} is the fastest at batch size {best.batch_size}: {speed}"
        f"{_lead(view, best)}{_ties(view, ranked)}; {_stability(view)}."
    )


def _fastest(view: ReportView) -> list[Row]:
    """Rows with correct outputs at the largest batch size that has any, the fastest first."""
    ranked = [view.ranked(batch_size) for batch_size in reversed(view.batch_sizes)]
    return next((rows for rows in ranked if rows), [])


def _lead(view: ReportView, best: Row) -> str:
    reference = view.report.reference
    if best.candidate == reference:
        return "; it is the reference itself"
    if best.ratio is None:
        return f", with no ratio: the reference {view.flagged_name(reference)} was not timed"
    return (
        f", {ratio(best.ratio.value)} times as fast as {view.flagged_name(reference)} "
        f"(95 % interval {interval(best.ratio)})"
    )


def _ties(view: ReportView, ranked: Sequence[Row]) -> str:
    """Candidates whose intervals overlap the fastest's: the next benchmark may rank them first."""
    best = ranked[0].ratio
    ties = [row.candidate for row in ranked[1:] if best and row.ratio and row.ratio.high >= best.low]
    return f"; {_join([view.flagged_name(item) for item in ties])} may be as fast" if ties else ""


def _stability(view: ReportView) -> str:
    num_unstable = sum(not row.is_stable for row in view.timed)
    if not num_unstable:
        return "all figures are stable"
    if num_unstable == len(view.timed):
        return "no figure is stable"
    return f"{num_unstable} of {len(view.timed)} rows {'is' if num_unstable == 1 else 'are'} not stable"


def _faults(view: ReportView) -> Iterator[str]:
    report = view.report
    if view.wrong:
        yield f"Wrong outputs: {_join([view.name(item) for item in view.wrong])}."
    if view.failed:
        yield f"Failed: {_join([view.name(item) for item in view.failed])}."
    if report.changed:
        yield f"CHANGED: {report.changed}"
    if not report.is_complete:
        yield "The benchmark was interrupted: this page has what was measured until then."


def _add_tiles(page: Page, view: ReportView) -> None:
    """The lowest latency, the highest throughput, the cold start, and the largest error."""
    tiles = [*_speed_tiles(view), *_error_tile(view)]
    if tiles:
        page.tiles(tiles)


def _speed_tiles(view: ReportView) -> Iterator[Tile]:
    if view.batch_sizes and (first := view.ranked(view.batch_sizes[0])):
        assert first[0].latency is not None
        what = f"lowest median latency at batch size {first[0].batch_size}: {view.flagged_name(first[0].candidate)}"
        yield f"{milliseconds(first[0].latency.median)} ms", what, _certainty(first[0])
    correct = [row for row in view.timed if row.is_correct]
    if correct:
        most = max(correct, key=lambda row: row.images_per_s or 0)
        what = f"highest throughput, at batch size {most.batch_size}: {view.flagged_name(most.candidate)}"
        yield f"{thousands(most.images_per_s)} images/s", what, _certainty(most)
        best = _fastest(view)[0].candidate
        if cold := cold_start_s(view, best):
            yield f"{seconds(cold)} s", f"cold start, until the first outputs: {view.flagged_name(best)}", ""


def _certainty(row: Row) -> str:
    """A figure that another benchmark would not find again is small and grey."""
    return "" if row.is_stable else UNCERTAIN


def _error_tile(view: ReportView) -> Iterator[Tile]:
    """The largest noise ratio, or the largest difference for files that have no golden record."""
    noise = {row.noise_ratio: row for row in view.timed if row.noise_ratio is not None}
    mood = "bad" if any(row.status == "wrong" for row in noise.values()) else "good"
    deltas = {row.max_delta: row for row in view.timed if row.max_delta is not None}
    if noise:
        worst = max(noise)
        name = view.flagged_name(noise[worst].candidate)
        yield ratio(worst), f"largest noise ratio (1 is PyTorch's own rounding): {name}", mood
    elif deltas and len(view.candidates) > 1:
        worst = max(deltas)
        what = f"largest relative difference: {view.flagged_name(deltas[worst].candidate)}"
        yield difference(worst), what, "bad" if view.wrong else ""  # nobody knows which of them is right


def _join(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


#: The page's sections. Each adds itself, or nothing if the report has nothing for it.
SECTIONS: tuple[Callable[[Page, ReportView], None], ...] = (
    _add_tiles,
    add_speed,
    add_latencies,
    add_accuracy,
    add_cold_start,
    add_image_files,
    add_instabilities,
    add_unavailable,
    add_method,
    add_machine,
)
