"""Histogram: distributions over a logarithmic axis; and a reliability diagram, accuracy against confidence."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from itertools import pairwise

from onward.report.charts.axes import Scale, decades, grid, scale, ticks, value_range
from onward.report.charts.canvas import (
    BOTTOM,
    HEIGHT,
    LEFT,
    NARROW,
    RIGHT,
    TOP,
    WIDTH,
    blank,
    place_legend,
    short,
    svg,
    text,
)
from onward.report.colours import series_colour

__all__ = ["histogram", "reliability"]


def histogram(
    counts: Mapping[str, Sequence[int]],
    *,
    edges: Sequence[float],
    x_label: str,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Distributions over a logarithmic axis, each in percent of its values. The last one is a line, the others areas.

    A bin that is not empty is drawn at least two units high, so that one value among thousands is visible.

    Args:
        counts: Name -> number of values in each bin.
        edges: The edges of the bins, above 0 and ascending, one more than there are bins.
        x_label: The title of the x axis.
        marks: Name -> x of a dashed line.
    """
    if not counts:
        return blank(f"distribution of {x_label}")
    shares = {name: [100 * item / max(sum(values), 1) for item in values] for name, values in counts.items()}
    low, high = value_range([item for values in shares.values() for item in values], False, from_zero=True)
    to_x = scale(edges[0], edges[-1], LEFT, NARROW - RIGHT, log=True)
    to_y = scale(low, high, HEIGHT - BOTTOM, TOP + 14)
    parts = [grid(ticks(low, high, False), to_y, "% of values", NARROW), decades(edges, to_x, x_label)]
    for index, values in enumerate(shares.values()):
        is_line = index == len(shares) - 1
        paint = f'fill-opacity="{0 if is_line else 0.3}" stroke-width="{1.8 if is_line else 0}"'
        colour = series_colour(index)
        parts.append(
            f'<polyline points="{_steps(values, edges, to_x, to_y)}" fill="{colour}" stroke="{colour}" '
            f'{paint} stroke-linejoin="round"/>'
        )
    for place, (left, right) in enumerate(pairwise(edges)):
        said = "; ".join(f"{name} {values[place]:,} of {sum(values):,}" for name, values in counts.items())
        parts.append(
            f'<rect x="{to_x(left):.1f}" y="{TOP}" width="{to_x(right) - to_x(left):.1f}" '
            f'height="{HEIGHT - BOTTOM - TOP}" fill-opacity="0"><title>{short(left)} to {short(right)}: '
            f"{html.escape(said)}</title></rect>"
        )
    shown = [(name, to_x(value)) for name, value in (marks or {}).items() if edges[0] <= value <= edges[-1]]
    parts += [_mark(name, x, to_right=index == len(shown) - 1) for index, (name, x) in enumerate(shown)]
    legend = place_legend(list(counts), title="% of values", width=NARROW)
    label = f"distribution of {x_label}: {', '.join(counts)}"
    return svg([*parts, legend.svg], label, width=NARROW, height=HEIGHT + legend.height)


def _steps(shares: Sequence[float], edges: Sequence[float], to_x: Scale, to_y: Scale) -> str:
    """The outline of a histogram, from the axis and back to it."""
    ground = float(HEIGHT - BOTTOM)
    points = [(to_x(edges[0]), ground)]
    for share, (left, right) in zip(shares, pairwise(edges), strict=True):
        top = min(to_y(share), ground - 2) if share else ground
        points += [(to_x(left), top), (to_x(right), top)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, (to_x(edges[-1]), ground)])


def _mark(name: str, x: float, to_right: bool) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{HEIGHT - BOTTOM}" stroke="var(--bad)" '
        f'stroke-dasharray="5 4"/>' + text(x + (4 if to_right else -4), TOP + 8, name, "start" if to_right else "end")
    )


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
