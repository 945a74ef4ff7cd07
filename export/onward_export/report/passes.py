"""Passes: what was done to the ONNX graph, and what it cost."""

from __future__ import annotations

from onward.report import Page
from onward_export.passes import PassResult
from onward_export.report.evidence import Evidence

__all__ = ["add_passes"]


def add_passes(page: Page, evidence: Evidence) -> None:
    """Each step with its noise ratio, and those that were left out."""
    passes = [result for item in evidence.examinations for result in item.passes]
    if not passes:
        return
    page.section(
        "Passes",
        "What was done to the ONNX graph, each step on a copy that was measured. A step that would "
        "take the noise ratio above 2 was left out.",
    )
    page.table(["pass", "places", "noise ratio before", "after", "kept", ""], [_row(item) for item in passes])


def _row(item: PassResult) -> list[str]:
    before, after = (
        "–" if ratio is None else f"{ratio:.2f}" for ratio in (item.noise_ratio_before, item.noise_ratio_after)
    )
    return [item.name, str(item.num_applied), before, after, "yes" if item.was_kept else "no", item.reason]
