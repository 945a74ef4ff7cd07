"""Cold start: from nothing to an answer, and what a new batch size, a pause and the memory cost.

Image files: how much of the speed is left when files have to be read and decoded, and rows to be written.
"""

from __future__ import annotations

from collections.abc import Iterator

from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.formatting import mebibytes, milliseconds, seconds, thousands
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.spec import Competitor
from onward.benchmarking.summary import Row
from onward.report import Page
from onward.report.charts import stacked

__all__ = ["add_cold_start", "add_image_files", "cold_start_s"]


def add_cold_start(page: Page, evidence: Evidence) -> None:
    """A picture of the stages, and a table of what is slow once."""
    phases = {competitor: _phases_s(evidence, competitor) for competitor in evidence.competitors}
    named = {evidence.name(competitor): found for competitor, found in phases.items() if found}
    if not named:
        return
    pause = f"{evidence.report.options.pause_s:g} s"
    page.section(
        "From nothing to an answer",
        "What a new process takes until its first answer, medians over launches; files were in the system's cache. "
        "The table has inferences that are slow once, the first at each batch size and the first after a pause of "
        f"{pause}, each beside the steady median in ms.",
    )
    page.figures(
        [("Seconds until the first answer", stacked(named, x_label="s")), *_memory(evidence)],
    )
    page.table(*_table(evidence, [competitor for competitor, found in phases.items() if found], pause))


def _memory(evidence: Evidence) -> Iterator[tuple[str, str]]:
    found = {competitor: _peak_bytes(evidence.of(competitor)) for competitor in evidence.competitors}
    named = {evidence.name(competitor): {"peak": size / 2**20} for competitor, size in found.items() if size}
    if named:
        yield "Most memory that the process ever had", stacked(named, x_label="MiB")


def _peak_bytes(rows: list[Row]) -> int | None:
    return max((row.peak_bytes for row in rows if row.peak_bytes is not None), default=None)


def cold_start_s(evidence: Evidence, competitor: Competitor) -> float:
    """Until the first answer at the smallest batch size; 0 where it is not known."""
    return sum(_phases_s(evidence, competitor).values())


def _phases_s(evidence: Evidence, competitor: Competitor) -> dict[str, float]:
    rows = evidence.of(competitor)
    stages = rows[0].stages if rows else None
    if stages is None:
        return {}
    phases = {"start": stages.process_s, "import": stages.import_s, "open": stages.open_s}
    return phases if stages.first_ms is None else phases | {"first inference": stages.first_ms / 1e3}


def _table(evidence: Evidence, competitors: list[Competitor], pause: str) -> tuple[list[str], list[list[str]]]:
    sizes = evidence.batch_sizes
    columns = ["backend", "sum, s", *(f"batch size {size}" for size in sizes)]
    columns += [f"after {pause}", "peak MiB", "file MiB"]
    return columns, [_cells(evidence, competitor) for competitor in competitors]


def _cells(evidence: Evidence, competitor: Competitor) -> list[str]:
    rows = {row.batch_size: row for row in evidence.of(competitor)}
    first = min(rows.items())[1]
    return [
        evidence.name(competitor),
        seconds(cold_start_s(evidence, competitor)),
        *(_beside_steady(rows.get(size), "first_ms") for size in evidence.batch_sizes),
        _beside_steady(first, "idle_ms"),
        mebibytes(_peak_bytes(list(rows.values()))),
        mebibytes(first.file_bytes),
    ]


def _beside_steady(row: Row | None, stage: str) -> str:
    once = getattr(row.stages, stage) if row and row.stages else None
    if once is None or row is None or row.latency is None:
        return "–"
    return f"{milliseconds(once)} / {milliseconds(row.latency.median)}"


def add_image_files(page: Page, evidence: Evidence) -> None:
    """Where the time of `predict` goes."""
    found = evidence.report.end_to_end
    if not found:
        return
    page.section(
        "From image files to rows",
        f"onward predict with a folder of {found[0].num_images:,} image files, to a CSV; opening the model is not "
        "counted. The arrays' throughput is that of the largest batch size, without files.",
    )
    shares = {
        evidence.name(item.competitor): {stage: 100 * share for stage, share in item.shares.items()} for item in found
    }
    speeds = {name: {"from files": item.images_per_s} for name, item in zip(shares, found, strict=True)}
    page.figures(
        [
            ("Where the time of all threads goes", stacked(shares, x_label="% of the time of all threads")),
            ("Images a second, from files", stacked(speeds, x_label="images/s")),
        ]
    )
    columns = ["backend", "images/s from files", "images/s from arrays", "of these"]
    page.table(columns, [_image_file_cells(item, evidence) for item in found])


def _image_file_cells(item: EndToEnd, evidence: Evidence) -> list[str]:
    rows = evidence.of(item.competitor)
    arrays = rows[-1].images_per_s if rows else None
    share = f"{item.images_per_s / arrays:.0%}" if arrays else "–"
    return [evidence.name(item.competitor), thousands(item.images_per_s), thousands(arrays), share]
