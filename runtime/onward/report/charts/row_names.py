"""Row names: what stands to the left of horizontal rows."""

from __future__ import annotations

import html
from collections.abc import Sequence

from onward.report.charts.canvas import cut, text, text_width

__all__ = ["ROW", "name_column", "row_name"]

#: From one row to the next.
ROW = 30
LONGEST = 170.0
MARGIN = 10


def name_column(names: Sequence[str]) -> float:
    """Where the plot begins: beside the longest name, or where that would leave too little of it."""
    return min(max(map(text_width, names), default=0.0), LONGEST) + MARGIN


def row_name(name: str, left: float, middle: float) -> str:
    """A name beside the plot that begins at `left`; cut where it is too long, and whole when pointed at."""
    drawn = text(left - MARGIN + 2, middle + 4, cut(name, LONGEST), "end")
    return f"<g><title>{html.escape(name)}</title>{drawn}</g>"
