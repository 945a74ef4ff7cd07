"""Accounts: what became of every stored weight."""

from __future__ import annotations

from onward.report import Page
from onward_export.report.evidence import Evidence

__all__ = ["add_accounts"]

COLUMNS = ("artifact", "equal bit for bit", "rearranged", "folds", "scalars of the graph", "unexplained", "verdict")
#: So many are said at once; of more, the others have to be opened.
MAX_STRANGERS = 12


def add_accounts(page: Page, evidence: Evidence) -> None:
    """A table of counts, then the names behind them."""
    page.section(
        "Weights",
        "Every stored value is the model's, bit for bit, or a stated fold of it. Outputs alone would miss a changed "
        "weight behind a unit that never fires.",
    )
    rows = [
        [item.artifact, f"{item.weights.num_exact:,}", f"{item.weights.num_rearranged:,}"]
        + [f"{len(item.weights.folds):,}", f"{item.weights.num_scalars:,}", f"{len(item.weights.strangers):,}"]
        + ["passed" if item.weights.passed else "failed"]
        for item in evidence.examinations
    ]
    page.table(COLUMNS, rows)
    for item in evidence.examinations:
        strangers, folds = item.weights.strangers, item.weights.folds
        if strangers:
            page.points([f"{item.artifact}: {stranger}." for stranger in strangers[:MAX_STRANGERS]])
        if len(strangers) > MAX_STRANGERS:
            others = strangers[MAX_STRANGERS:]
            page.details(f"{item.artifact}: {len(others):,} more that are unexplained", others)
        if folds:
            page.details(f"{item.artifact}: {len(folds):,} {'fold' if len(folds) == 1 else 'folds'}, by name", folds)
