"""The page: its sections, in their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from export.gate import Examination
from export.report.accounts import add_accounts
from export.report.agreement import add_agreement
from export.report.evidence import Evidence
from export.report.explanations import add_explanations
from export.report.headline import add_tiles, headline
from export.report.histogram import add_histograms
from export.report.passes import add_passes
from export.report.ratios import add_measurements, add_ratios
from export.report.trials import add_trials
from export.report.worst import add_worst
from runtime import __version__
from runtime.golden import GoldenRecord
from runtime.report import Page

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
