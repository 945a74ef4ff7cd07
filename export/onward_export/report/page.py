"""The page: its sections, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onward import __version__
from onward.bundle.golden import GoldenRecord
from onward.report import Page
from onward_export.gate import Examination
from onward_export.report.agreement import add_agreement, add_worst
from onward_export.report.details import add_accounts, add_explanations, add_passes, add_trials
from onward_export.report.errors import add_histograms, add_measurements, add_ratios
from onward_export.report.evidence import Evidence
from onward_export.report.headline import add_tiles, headline

__all__ = ["SECTIONS", "write_parity_page"]

#: What the page is made of. A section adds itself, or nothing where it has nothing to say.
SECTIONS: tuple[Callable[[Page, Evidence], None], ...] = (
    add_tiles,
    add_explanations,
    add_ratios,
    add_histograms,
    add_worst,
    add_agreement,
    add_accounts,
    add_passes,
    add_measurements,
    add_trials,
)


def write_parity_page(
    path: Path,
    title: str,
    examinations: Sequence[Examination],
    *,
    record: GoldenRecord,
    labels: Sequence[str],
    num_shown: Mapping[str, int] | None = None,
) -> None:
    """Write the page: one file that needs no network. The same examinations give the same bytes.

    Args:
        path: Where to.
        title: What the model is; it follows the verdict and a colon.
        examinations: Of each artifact.
        record: All samples that the gate saw.
        labels: One a class.
        num_shown: Kind -> how many of its samples may be shown as pictures, because they travel anyway; all of a
            kind that is not named.

    Raises:
        OutputError: The place cannot be written to, or is full.
    """
    evidence = Evidence(examinations, record, labels, num_shown or {})
    word, mood = ("Passed", "good") if evidence.passed else ("Failed", "bad")
    page = Page(f"{word}: {title}", headline(evidence), mood=mood)
    for add_section in SECTIONS:
        add_section(page, evidence)
    page.footer(f"onward {__version__}. Made by the gate of `onward export`. This file needs no network.")
    page.write(path)
