"""Image files: how much of the speed is left when files have to be read and decoded, and rows to be written."""

from __future__ import annotations

from onward.benchmarking.end_to_end import EndToEnd
from onward.benchmarking.formatting import thousands
from onward.benchmarking.page.evidence import Evidence
from onward.report import Page
from onward.report.charts import stacked

__all__ = ["add_image_files"]


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
    page.table(columns, [_cells(item, evidence) for item in found])


def _cells(item: EndToEnd, evidence: Evidence) -> list[str]:
    rows = evidence.of(item.competitor)
    arrays = rows[-1].images_per_s if rows else None
    share = f"{item.images_per_s / arrays:.0%}" if arrays else "–"
    return [evidence.name(item.competitor), thousands(item.images_per_s), thousands(arrays), share]
