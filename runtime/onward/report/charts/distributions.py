"""Distributions: histograms over a logarithmic axis, and violin plots drawn from quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from onward.printable import escape_html
from onward.report.charts.axes import (
    LARGEST,
    Scale,
    close_range,
    close_ticks,
    decades,
    grid,
    scale,
    ticks,
    upright_grid,
    value_range,
)
from onward.report.charts.canvas import (
    BOTTOM,
    HEIGHT,
    LEFT,
    NARROW,
    RIGHT,
    ROW,
    TOP,
    WIDTH,
    blank,
    name_column,
    place_legend,
    row_name,
    short,
    svg,
    text,
)
from onward.report.page import series_colour

__all__ = ["histogram", "violin"]


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
            f"{escape_html(said)}</title></rect>"
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


#: Width of the column of medians on the right.
FIGURES = 46
#: The y coordinate of the first row of a violin plot.
ROWS_TOP = 22
#: With fewer values, each value is drawn instead of an outline.
LEAST_SHAPED = 40
#: Half the height of an outline.
HALF = 11.0
#: The quantiles that are drawn; the axis shows all of them.
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99)
#: Interpolated values between given percentiles: one every tenth of a percent.
NUM_BETWEEN = 1001

#: Values, or percent -> value.
Distribution = Sequence[float] | NDArray[np.floating] | Mapping[int, float]


@dataclass(frozen=True)
class Quantiles:
    """The quantiles of a distribution, its values for the outline, and how many there were, if known."""

    values: NDArray[np.float64]
    num_values: int | None
    log: bool
    p1: float
    p5: float
    p25: float
    median: float
    p75: float
    p90: float
    p99: float


def violin(rows: Mapping[str, Distribution], *, x_label: str, log_x: bool = True) -> str:
    """Distributions, e.g. of latencies: an outline from p1 to p99, a thin line from p5 to p99, a thick one from p25 to
    p75, and a dot at the median.

    There is a long tick at p99 and a short one at p90. Of fewer than 40 values, each is drawn instead of an outline.

    Args:
        rows: Name -> values in any order, or percentiles, as percent -> value, with linear interpolation between them.
            NaN and infinity are left out, on a logarithmic axis also values that are not above 0.
        x_label: The title of the x axis, with the unit.
        log_x: Whether the x axis is logarithmic.
    """
    found = {name: _measure(values, log_x) for name, values in rows.items()}
    drawn = [quantiles for quantiles in found.values() if quantiles]
    if not drawn:
        return blank(f"distributions of {x_label}: {', '.join(rows)}")
    low, high = close_range([end for one in drawn for end in (one.p1, one.p99)], log_x, margin=0.03)
    left, right, ground = name_column(list(rows)), WIDTH - RIGHT - FIGURES, ROWS_TOP + ROW * len(rows)
    to_x = scale(low, high, left, right, log_x)
    parts = [
        upright_grid(close_ticks(low, high, log_x), to_x, top=ROWS_TOP - 2, ground=ground + 2),
        text((left + right) / 2, ground + 32, x_label, "middle"),
        text(WIDTH - RIGHT, ROWS_TOP - 8, "median", "end", size=9.5),
    ]
    for index, (name, quantiles) in enumerate(found.items()):
        middle = ROWS_TOP + ROW * (index + 0.5)
        parts.append(row_name(name, left, middle))
        if quantiles:
            parts.append(_draw(name, quantiles, middle, to_x, series_colour(index)))
        parts.append(text(WIDTH - RIGHT, middle + 4, short(quantiles.median) if quantiles else "–", "end"))
    return svg(parts, f"distributions of {x_label}: {', '.join(rows)}", height=ground + 40)


def _measure(values: Distribution, log: bool) -> Quantiles | None:
    """The quantiles, or None if no value can be drawn."""
    array = np.asarray(_between(values) if isinstance(values, Mapping) else values, np.float64).ravel()
    array = array[np.abs(array) < LARGEST]  # drops NaN, too
    array = array[array > 1 / LARGEST] if log else array
    if not len(array):
        return None
    num_values = None if isinstance(values, Mapping) else len(array)
    return Quantiles(array, num_values, log, *np.quantile(array, SHARES).tolist())


def _between(percentiles: Mapping[int, float]) -> NDArray[np.float64]:
    """Values with these percentiles."""
    known = sorted(item for item in percentiles.items() if abs(item[1]) < LARGEST)
    if not known:
        return np.empty(0)
    percents, values = zip(*known, strict=True)
    between: NDArray[np.float64] = np.interp(np.linspace(0, 100, NUM_BETWEEN), percents, values)
    return between


def _draw(name: str, quantiles: Quantiles, middle: float, to_x: Scale, colour: str) -> str:
    def across(low: float, high: float, width: float) -> str:
        return (
            f'<line x1="{to_x(low):.1f}" x2="{to_x(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>'
        )

    def upright(value: float, half: float, paint: str) -> str:
        x = to_x(value)
        return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - half:.1f}" y2="{middle + half:.1f}" {paint}/>'

    said = f"{name}: median {quantiles.median:.4g}, p90 {quantiles.p90:.4g}, p99 {quantiles.p99:.4g}"
    said += "" if quantiles.num_values is None else f"; {quantiles.num_values:,} values"
    tick = f'stroke="{colour}" stroke-width="1.5"'
    shape = _outline if len(quantiles.values) >= LEAST_SHAPED else _dots
    return (
        f"<g><title>{escape_html(said)}</title>{shape(quantiles, middle, to_x, colour)}"
        f"{across(quantiles.p5, quantiles.p99, 1.5)}{across(quantiles.p25, quantiles.p75, 7)}"
        f"{upright(quantiles.p90, 4.5, tick)}{upright(quantiles.p99, 7.5, tick)}"
        # a rim in the background colour keeps the dot visible on its bar
        f'<circle cx="{to_x(quantiles.median):.1f}" cy="{middle:.1f}" r="4" fill="{colour}" stroke="var(--panel)" '
        f'stroke-width="1.5"/></g>'
    )


def _dots(quantiles: Quantiles, middle: float, to_x: Scale, colour: str) -> str:
    return "".join(
        f'<circle cx="{to_x(value):.1f}" cy="{middle:.1f}" r="3" fill="{colour}" fill-opacity=".35"/>'
        for value in quantiles.values.tolist()
        if quantiles.p1 <= value <= quantiles.p99
    )


def _along(quantiles: Quantiles, values: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    """The x coordinates of values between p1, at `start`, and p99, at `end`."""
    low, high = np.log10((quantiles.p1, quantiles.p99)) if quantiles.log else (quantiles.p1, quantiles.p99)
    if not high > low:
        return np.full(len(values), start)
    shares: NDArray[np.float64] = ((np.log10(values) if quantiles.log else values) - low) / (high - low)
    return start + shares * (end - start)


def _outline(quantiles: Quantiles, middle: float, to_x: Scale, colour: str) -> str:
    """The density of the values, mirrored at the row's middle; the highest density fills the row."""
    start, end = to_x(quantiles.p1), to_x(quantiles.p99)
    edges = np.linspace(start - 4, end + 4, max(9, min(121, int((end - start + 8) / 1.5))))
    within = quantiles.values[(quantiles.values >= quantiles.p1) & (quantiles.values <= quantiles.p99)]
    counts = np.histogram(_along(quantiles, within, start, end), edges)[0].astype(np.float64)
    smooth = np.convolve(counts, (1, 3, 5, 6, 5, 3, 1), "same")
    heights = smooth / smooth.max() * HALF
    centres = (edges[:-1] + edges[1:]) / 2
    above = [f"{x:.1f},{middle - y:.1f}" for x, y in zip(centres, heights, strict=True)]
    below = [f"{x:.1f},{middle + y:.1f}" for x, y in zip(centres[::-1], heights[::-1], strict=True)]
    return f'<polygon points="{" ".join([*above, *below])}" fill="{colour}" fill-opacity=".3"/>'
