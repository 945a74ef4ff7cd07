"""Cold start: from starting the process to the first outputs, and from image files to rows."""

from __future__ import annotations

from collections.abc import Iterator

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.report_view import ReportView, mebibytes, milliseconds, seconds, thousands
from onward.benchmarking.row import Row
from onward.report import Page
from onward.report.charts import stacked

__all__ = ["add_cold_start", "add_image_files", "cold_start_s"]


def add_cold_start(page: Page, view: ReportView) -> None:
    """Charts of the stages and of the memory, and a table of inferences that are slow only once."""
    stages = {candidate: _stages_s(view, candidate) for candidate in view.candidates}
    named = {view.flagged_name(candidate): found for candidate, found in stages.items() if found}
    if not named:
        return
    pause = f"{view.report.options.pause_s:g} s"
    page.section(
        "Cold start",
        "The time from starting a process to its first outputs: medians over process runs, with the files in the "
        "system's cache. The table has inferences that are slow only once, the first at each batch size and the first "
        f"after a pause of {pause}. Each stands before the steady median, in ms.",
    )
    page.figures([("Seconds until the first outputs", stacked(named, x_label="s")), *_memory(view)])
    page.table(*_table(view, [candidate for candidate, found in stages.items() if found], pause))


def cold_start_s(view: ReportView, candidate: Candidate) -> float:
    """Seconds until the first outputs at the smallest batch size; 0 if unknown."""
    return sum(_stages_s(view, candidate).values())


def _stages_s(view: ReportView, candidate: Candidate) -> dict[str, float]:
    rows = view.rows_of(candidate)
    stages = rows[0].stages if rows else None
    if stages is None:
        return {}
    found = {"start": stages.process_s, "import": stages.import_s, "open": stages.open_s}
    return found if stages.first_ms is None else found | {"first inference": stages.first_ms / 1e3}


def _memory(view: ReportView) -> Iterator[tuple[str, str]]:
    found = {candidate: _peak_bytes(view.rows_of(candidate)) for candidate in view.candidates}
    named = {view.flagged_name(candidate): {"peak": size / 2**20} for candidate, size in found.items() if size}
    if named:
        yield "Peak memory of the process", stacked(named, x_label="MiB")


def _peak_bytes(rows: list[Row]) -> int | None:
    return max((row.peak_bytes for row in rows if row.peak_bytes is not None), default=None)


def _table(view: ReportView, candidates: list[Candidate], pause: str) -> tuple[list[str], list[list[str]]]:
    columns = ["backend", "sum, s", *(f"batch size {size}" for size in view.batch_sizes)]
    columns += [f"after {pause}", "peak MiB", "file MiB"]
    return columns, [_cells(view, candidate) for candidate in candidates]


def _cells(view: ReportView, candidate: Candidate) -> list[str]:
    rows = {row.batch_size: row for row in view.rows_of(candidate)}
    first = min(rows.items())[1]
    return [
        view.flagged_name(candidate),
        seconds(cold_start_s(view, candidate)),
        *(_with_steady(rows.get(size), "first_ms") for size in view.batch_sizes),
        _with_steady(first, "after_pause_ms"),
        mebibytes(_peak_bytes(list(rows.values()))),
        mebibytes(first.file_bytes),
    ]


def _with_steady(row: Row | None, stage: str) -> str:
    once = getattr(row.stages, stage) if row and row.stages else None
    if once is None or row is None or row.latency is None:
        return "–"
    return f"{milliseconds(once)} / {milliseconds(row.latency.median)}"


def add_image_files(page: Page, view: ReportView) -> None:
    """Throughput of `predict` on image files, and where its time goes."""
    found = view.report.end_to_end
    if not found:
        return
    page.section(
        "From image files to rows",
        f"onward predict on a folder of {found[0].num_images:,} image files, writing a CSV; opening the model is not "
        "counted. The throughput from arrays is that of the largest batch size.",
    )
    shares = {
        view.flagged_name(item.candidate): {stage: 100 * share for stage, share in item.shares.items()}
        for item in found
    }
    speeds = {view.flagged_name(item.candidate): {"from files": item.images_per_s} for item in found}
    page.figures(
        [
            ("Where the time of all threads goes", stacked(shares, x_label="% of the time of all threads")),
            ("Images/s from files", stacked(speeds, x_label="images/s")),
        ]
    )
    columns = ["backend", "images/s from files", "images/s from arrays", "files / arrays"]
    page.table(columns, [_image_file_cells(item, view) for item in found])


def _image_file_cells(item: EndToEnd, view: ReportView) -> list[str]:
    rows = view.rows_of(item.candidate)
    arrays = rows[-1].images_per_s if rows else None
    share = f"{item.images_per_s / arrays:.0%}" if arrays else "–"
    return [view.flagged_name(item.candidate), thousands(item.images_per_s), thousands(arrays), share]
