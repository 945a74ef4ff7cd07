"""Classification: a confusion matrix, and a reliability diagram of accuracy against confidence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onward.printable import escape_html
from onward.report.charts.axes import grid, scale
from onward.report.charts.canvas import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    blank,
    place_legend,
    short,
    svg,
    text,
)

__all__ = ["heatmap", "reliability"]


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
        parts.append(f'<text transform="translate({x + 3:.1f},{top - 6}) rotate(-45)">{escape_html(name[:9])}</text>')
        for column in range(size):
            share, count = float(shares[row, column]), int(counts[row, column])
            colour = "var(--c0)" if row == column else "var(--bad)"
            opacity = 0.05 + 0.8 * share if row == column else 0.04 + 0.9 * min(1.0, 4 * share)
            x, y = left + column * cell, top + row * cell
            title = escape_html(f"{labels[row]} taken for {labels[column]}: {count}")
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" rx="2" '
                f'fill="{colour}" fill-opacity="{opacity if count else 0.04:.3f}"><title>{title}</title></rect>'
            )
            if count and size <= 20:
                parts.append(text(x + cell / 2, y + cell / 2 + 3, str(count), "middle", size=10))
    return svg(parts, "confusion matrix", width=left + 385, height=top + 346)


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """A reliability diagram: are predictions with a confidence of 80 % right 80 times in 100?

    The confidence is divided into bins of equal width. A bar is the accuracy of the images in a bin, the line across it
    their mean confidence. On the dashed diagonal the two are equal.

    Args:
        bins: From confidence 0 to 1: (mean confidence, accuracy, number of images). For an empty bin only the number
            is used.

    Source: C. Guo and others, "On calibration of modern neural networks", 2017, figure 1.
    """
    if not bins:
        return blank("accuracy by confidence")
    height = HEIGHT + 90.0
    to_x, to_y = scale(0, 1, LEFT, WIDTH - RIGHT), scale(0, 1, height - BOTTOM, TOP + 20)
    width = (WIDTH - RIGHT - LEFT) / len(bins)
    fifths = [index / 5 for index in range(6)]
    parts = [grid(fifths, to_y, "")]
    parts += [text(to_x(value), height - BOTTOM + 15, short(value), "middle") for value in fifths]
    parts += [
        text((LEFT + WIDTH - RIGHT) / 2, height - 4, "confidence", "middle"),
        text(LEFT - 6, TOP + 8, "images", "end", size=9.5),
        f'<line x1="{to_x(0):.1f}" x2="{to_x(1):.1f}" y1="{to_y(0):.1f}" y2="{to_y(1):.1f}" '
        f'stroke="var(--soft)" stroke-dasharray="5 4"/>',
    ]
    for index, (confidence, accuracy, count) in enumerate(bins):
        left = LEFT + index * width
        written = f"{count / 1e3:.1f}k" if 1e3 <= count < 1e4 else short(count)  # 1,234 is wider than a bar
        parts.append(text(left + width / 2, TOP + 8, written, "middle", size=9.5))
        if not count:
            continue
        top, across = to_y(accuracy), to_y(confidence)
        title = f"{count:,} images: confidence {confidence:.1%}, accuracy {accuracy:.1%}"
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" rx="2" '
            f'height="{max(height - BOTTOM - top, 1):.1f}" fill="var(--c0)" fill-opacity=".6">'
            f"<title>{title}</title></rect>"
            f'<line x1="{left + 1:.1f}" x2="{left + width - 1:.1f}" y1="{across:.1f}" y2="{across:.1f}" '
            f'stroke="var(--c1)" stroke-width="3"><title>{title}</title></line>'
        )
    return svg([*parts, place_legend(["accuracy", "mean confidence"]).svg], "accuracy by confidence", height=height)
