"""Heat map: a confusion matrix."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onward.report.charts.canvas import blank, svg, text

__all__ = ["heatmap"]


def heatmap(counts: NDArray[np.integer], labels: Sequence[str]) -> str:
    """A confusion matrix: true classes down, predicted classes across; the colour shows the share of the row."""
    size = len(labels)
    if not size:
        return blank("confusion matrix")
    cell = 340 / size
    left, top = 92.0, 64.0
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = [text(left + 170, 12, "predicted", "middle"), text(4, top - 8, "true", "start")]
    for row in range(size):
        name = labels[row] if len(labels[row]) <= 14 else labels[row][:13] + "…"
        parts.append(text(left - 6, top + (row + 0.5) * cell + 4, name, "end"))
        x = left + (row + 0.5) * cell
        parts.append(f'<text transform="translate({x + 3:.1f},{top - 6}) rotate(-45)">{html.escape(name[:9])}</text>')
        for column in range(size):
            share, count = float(shares[row, column]), int(counts[row, column])
            colour = "var(--c0)" if row == column else "var(--bad)"
            opacity = 0.05 + 0.8 * share if row == column else 0.04 + 0.9 * min(1.0, 4 * share)
            x, y = left + column * cell, top + row * cell
            title = html.escape(f"{labels[row]} taken for {labels[column]}: {count}")
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" rx="2" '
                f'fill="{colour}" fill-opacity="{opacity if count else 0.04:.3f}"><title>{title}</title></rect>'
            )
            if count and size <= 20:
                parts.append(text(x + cell / 2, y + cell / 2 + 3, str(count), "middle", size=10))
    return svg(parts, "confusion matrix", width=left + 385, height=top + 346)
