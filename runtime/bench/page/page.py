"""The page: its sections, in their order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runtime.bench.page.answers import add_answers
from runtime.bench.page.cold_start import add_cold_start
from runtime.bench.page.doubts import add_doubts
from runtime.bench.page.evidence import Evidence
from runtime.bench.page.headline import add_tiles, headline, mood, title
from runtime.bench.page.image_files import add_image_files
from runtime.bench.page.latencies import add_latencies
from runtime.bench.page.machine import add_machine
from runtime.bench.page.method import add_method
from runtime.bench.page.speed import add_speed
from runtime.bench.report import Report
from runtime.report import Page

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
