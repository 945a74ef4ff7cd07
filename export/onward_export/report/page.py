"""The page: its verdict and its sections, in their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onward import __version__
from onward.bundle.golden import GoldenRecord
from onward.parity import CONSTANT, MAX_NOISE_RATIO, Comparison
from onward.report import Page
from onward_export.gate import Examination
from onward_export.report.agreement import add_agreement
from onward_export.report.artifacts import add_accounts, add_explanations, add_passes
from onward_export.report.method import add_trials
from onward_export.report.noise_ratios import add_histograms, add_measurements, add_ratios
from onward_export.report.results import Evidence, times
from onward_export.report.worst_samples import add_worst

__all__ = ["SECTIONS", "write_parity_page"]


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


def headline(evidence: Evidence) -> str:
    """The verdict and its reason."""
    if not evidence.passed:
        reasons = [_reason(item, evidence) for item in evidence.examinations if not item.passed]
        return f"The gate is closed: {'; '.join(reasons)}. Nothing was published."
    if not evidence.is_measured:
        return (
            "Every exported file gives what PyTorch gives, within the tolerance of torch.testing.assert_close. The "
            "model cannot run in float64, so nothing finer could be measured."
        )
    worst = max(item.verdict.noise_ratio for item in evidence.examinations)
    return (
        "Every exported file computes this model as exactly as PyTorch itself does: its largest error is "
        f"{worst:.2f} times PyTorch's own, and at most {MAX_NOISE_RATIO:g} times passes."
    )


def add_tiles(page: Page, evidence: Evidence) -> None:
    """The worst ratio beside the figures that people know."""
    rows = _rows(evidence)
    worst = max((row.noise_ratio for row in rows), key=_nan_first)
    delta = max((row.max_delta for row in rows), key=_nan_first)
    num_close = sum(row.assert_close for row in rows)
    agreement = min(row.agreement or 0 for row in rows)
    num_unexplained = sum(len(item.weights.unexplained) for item in evidence.examinations)
    within = "good" if worst <= MAX_NOISE_RATIO else "bad"
    page.tiles(
        [
            (
                times(worst),
                f"largest error over PyTorch's own; at most {MAX_NOISE_RATIO:g} passes"
                if evidence.is_measured
                else "largest difference over 4 units in the last place; no reference in float64",
                within if evidence.is_measured else "",
            ),
            (f"{delta:.2g}", "max |Δ|: largest difference from PyTorch's float32", ""),
            (
                "yes" if num_close == len(rows) else f"no in {len(rows) - num_close} of {len(rows)}",
                "torch.testing.assert_close at its defaults",
                "" if evidence.is_measured else "good" if num_close == len(rows) else "bad",
            ),
            (f"{agreement:.1%}", "top-1 agreement with the reference, where it is least", ""),
            (
                f"{num_unexplained:,}",
                "stored tensors that are unexplained",
                "bad" if num_unexplained else "",
            ),
        ]
    )


def _rows(evidence: Evidence) -> list[Comparison]:
    """The comparisons that the verdict is about; of constant images only those that failed."""
    rows = [row for item in evidence.examinations for row in item.verdict.comparisons]
    return [row for row in rows if row.kind != CONSTANT or not row.passed]


def _reason(item: Examination, evidence: Evidence) -> str:
    failed = [row for row in item.verdict.comparisons if not row.passed]
    reasons = []
    if failed:
        worst = max(failed, key=lambda row: _nan_first(row.noise_ratio))
        reasons.append(
            f"is up to {times(worst.noise_ratio)} times as far from the mathematical model as PyTorch is "
            f"({worst.output} of {worst.kind} samples)"
            if evidence.is_measured
            else f"differs from PyTorch by up to {worst.max_delta:.1e}"
        )
    if item.weights.unexplained:
        count = len(item.weights.unexplained)
        reasons.append(f"holds {count} {'tensor' if count == 1 else 'tensors'} that the model does not explain")
    return f"{item.file} {' and '.join(reasons)}"


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


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
