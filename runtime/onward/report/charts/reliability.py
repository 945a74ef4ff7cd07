"""Reliability: confidence held against accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from onward.report.charts.axes import grid, scale
from onward.report.charts.canvas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, blank, short, svg, text
from onward.report.charts.legend import place_legend

__all__ = ["reliability"]


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """A reliability diagram: is what is said with a confidence of 80 % right 80 times in 100?

    A bar stands for the accuracy of the images in one of the equally wide bins of the confidence, a line across it for
    their mean confidence; the dashed diagonal is where the two agree.

    Args:
        bins: From confidence 0 to 1: (mean confidence, accuracy, number of images); of an empty one only the number
            is looked at.

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
