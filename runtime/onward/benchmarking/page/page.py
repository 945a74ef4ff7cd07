"""The page: its sections, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from onward.benchmarking.page.answers import add_answers
from onward.benchmarking.page.cold_start import add_cold_start
from onward.benchmarking.page.doubts import add_doubts
from onward.benchmarking.page.evidence import Evidence
from onward.benchmarking.page.headline import add_tiles, headline, mood, title
from onward.benchmarking.page.image_files import add_image_files
from onward.benchmarking.page.latencies import add_latencies
from onward.benchmarking.page.machine import add_machine
from onward.benchmarking.page.method import add_method
from onward.benchmarking.page.speed import add_speed
from onward.benchmarking.report import Report
from onward.report import Page

__all__ = ["SECTIONS", "write_page"]

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
