"""Page: the verdict in one sentence, the key figures, then the sections in their order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onward import __version__
from onward.bundle.golden import GoldenRecord
from onward.parity import CONSTANT, MAX_NOISE_RATIO, Comparison
from onward.report import Page
from onward.signature import CLASSIFICATION, AnySignature
from onward_export.failed_formats import FailedFormat
from onward_export.gate import GateResult
from onward_export.report.agreement import add_agreement
from onward_export.report.artifacts import add_explanations, add_failed_formats, add_passes, add_weights
from onward_export.report.method import add_method
from onward_export.report.noise_ratios import add_histograms, add_measurements, add_ratios
from onward_export.report.results import Method, ParityResults, format_ratio
from onward_export.report.worst_samples import add_worst_samples

__all__ = ["write_parity_page"]


def write_parity_page(
    path: Path,
    title: str,
    artifacts: Sequence[GateResult],
    *,
    record: GoldenRecord,
    signature: AnySignature,
    num_shown: Mapping[str, int] | None = None,
    failed: Sequence[FailedFormat] = (),
    method: Method | None = None,
) -> None:
    """Write the page: one file that needs no network. The same results give the same bytes.

    Args:
        path: The file to write.
        title: What the page is about; it follows the verdict and a colon.
        artifacts: The result of each artifact.
        record: All samples that the gate measured.
        signature: The signature of the model.
        num_shown: Kind -> how many of its samples may be shown as pictures, because the bundle holds them anyway; all
            of a kind that is not named.
        failed: The formats that are not published, and why.
        method: How the verdict came about, if it is to be told.

    Raises:
        OutputError: The file cannot be written.
    """
    results = ParityResults(artifacts, record, signature, num_shown or {}, failed, method)
    word, mood = ("Passed", "good") if results.passed else ("Failed", "bad")
    page = Page(f"{word}: {title}", verdict_sentence(results), mood=mood)
    for add_section in (*SECTIONS, *TASK_SECTIONS.get(signature.task, ()), *LAST_SECTIONS):
        add_section(page, results)
    page.footer(f"onward {__version__}. Made by the gate of `onward export`. This file needs no network.")
    page.write(path)


def verdict_sentence(results: ParityResults) -> str:
    """The verdict and its reason, for a reader who has never seen such a page."""
    if not results.passed:
        reasons = [_reason(item, results) for item in results.artifacts if not item.passed]
        return f"The gate is closed: {'; '.join(reasons)}. Nothing was published."
    if not results.is_measured:
        return (
            "Every exported file gives the outputs of PyTorch, within the tolerance of torch.testing.assert_close. The "
            "model cannot run in float64, so no finer measurement is possible."
        )
    worst = max(item.verdict.noise_ratio for item in results.artifacts)
    return (
        "Every exported file is about as close to the mathematical model as PyTorch itself: its largest error is "
        f"{worst:.2f} times PyTorch's own. Up to {MAX_NOISE_RATIO:g} times passes."
    )


def add_key_figures(page: Page, results: ParityResults) -> None:
    """The worst noise ratio beside figures that people know."""
    rows = _rows(results)
    worst = max((row.noise_ratio for row in rows), key=_nan_first)
    delta = max((row.max_delta for row in rows), key=_nan_first)
    num_close = sum(row.assert_close for row in rows)
    shares = [row.agreement for row in rows if row.agreement is not None]
    where = f"lowest {results.task.agreement_name} with the reference"
    agreement = [(f"{min(shares):.1%}", where, "")] if shares else []
    num_unexplained = sum(len(item.weights.unexplained) for item in results.artifacts)
    within = "good" if worst <= MAX_NOISE_RATIO else "bad"
    page.tiles(
        [
            (
                format_ratio(worst),
                f"largest error over PyTorch's own; at most {MAX_NOISE_RATIO:g} passes"
                if results.is_measured
                else "largest difference over 4 units in the last place; no reference in float64",
                within if results.is_measured else "",
            ),
            (f"{delta:.2g}", "max |Δ|: largest difference from PyTorch's float32", ""),
            (
                "yes" if num_close == len(rows) else f"no in {len(rows) - num_close} of {len(rows)}",
                "torch.testing.assert_close at its defaults",
                "" if results.is_measured else "good" if num_close == len(rows) else "bad",
            ),
            *agreement,
            (
                f"{num_unexplained:,}",
                "stored tensors that are unexplained",
                "bad" if num_unexplained else "",
            ),
        ]
    )


def _rows(results: ParityResults) -> list[Comparison]:
    """The comparisons that decide the verdict; those of constant images only where they failed."""
    rows = [row for item in results.artifacts for row in item.verdict.comparisons]
    return [row for row in rows if row.kind != CONSTANT or not row.passed]


def _reason(item: GateResult, results: ParityResults) -> str:
    failed = [row for row in item.verdict.comparisons if not row.passed]
    reasons = []
    if failed:
        worst = max(failed, key=lambda row: _nan_first(row.noise_ratio))
        reasons.append(
            f"is up to {format_ratio(worst.noise_ratio)} times as far from the mathematical model as PyTorch is "
            f"({worst.output} of {worst.kind} samples)"
            if results.is_measured
            else f"differs from PyTorch by up to {worst.max_delta:.1e}"
        )
    if item.weights.unexplained:
        count = len(item.weights.unexplained)
        reasons.append(f"holds {count} unexplained {'tensor' if count == 1 else 'tensors'}")
    return f"{item.file} {' and '.join(reasons)}"


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value


Section = Callable[[Page, ParityResults], None]
#: The first sections of the page. Each adds itself, or nothing where it does not apply.
SECTIONS: tuple[Section, ...] = (
    *(add_key_figures, add_failed_formats, add_explanations),
    *(add_ratios, add_histograms, add_worst_samples),
)
#: Task -> the sections that only it has.
TASK_SECTIONS: dict[str, tuple[Section, ...]] = {CLASSIFICATION: (add_agreement,)}
LAST_SECTIONS: tuple[Section, ...] = (add_weights, add_passes, add_measurements, add_method)
