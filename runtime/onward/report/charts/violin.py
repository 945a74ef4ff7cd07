"""Spans: distributions side by side, a row for each, drawn from quantiles."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward.report.charts.canvas import (
    LARGEST,
    RIGHT,
    ROW,
    WIDTH,
    Scale,
    blank,
    close_range,
    close_ticks,
    name_column,
    row_name,
    scale,
    short,
    svg,
    text,
    upright_grid,
)
from onward.report.colours import series_colour

__all__ = ["spans"]

#: Room to the right for the medians' figures.
FIGURES = 46
TOP = 22
#: Fewer values than this have no shape: each is drawn.
LEAST_SHAPED = 40
#: Of an outline, a row's middle to its edge.
HALF = 11.0
#: Shares of the values that the marks stand at: the axis holds all of them.
SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99)
#: Values that stand in for those between percentiles: every tenth of a percent.
NUM_BETWEEN = 1001

#: Values, or percent -> value.
Distribution = Sequence[float] | NDArray[np.floating] | Mapping[int, float]


@dataclass(frozen=True)
class Span:
    """What is drawn of a distribution: quantiles, its values for the outline, and how many there were, if known."""

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


def spans(rows: Mapping[str, Distribution], *, x_label: str, log_x: bool = True) -> str:
    """Distributions, as of latencies: an outline from p1 to p99, p5 to p99 thin, p25 to p75 thick, and the median.

    A longer tick stands at p99 and a shorter one at p90; of fewer than 40 values each is drawn instead of an outline.

    Args:
        rows: Name -> values, in any order and number, or percentiles, as percent -> value, between which they are
            taken to lie evenly; NaN and infinity are left out, and on a logarithmic axis what is not above 0.
        x_label: Under the axis, with the unit.
        log_x: Logarithmic x.
    """
    found = {name: _measure(values, log_x) for name, values in rows.items()}
    drawn = [span for span in found.values() if span]
    if not drawn:
        return blank(f"distributions of {x_label}: {', '.join(rows)}")
    low, high = close_range([value for span in drawn for value in (span.p1, span.p99)], log_x, margin=0.03)
    left, right, ground = name_column(list(rows)), WIDTH - RIGHT - FIGURES, TOP + ROW * len(rows)
    to_x = scale(low, high, left, right, log_x)
    parts = [
        upright_grid(close_ticks(low, high, log_x), to_x, top=TOP - 2, ground=ground + 2),
        text((left + right) / 2, ground + 32, x_label, "middle"),
        text(WIDTH - RIGHT, TOP - 8, "median", "end", size=9.5),
    ]
    for index, (name, span) in enumerate(found.items()):
        middle = TOP + ROW * (index + 0.5)
        parts.append(row_name(name, left, middle))
        if span:
            parts.append(_draw(name, span, middle, to_x, series_colour(index)))
        parts.append(text(WIDTH - RIGHT, middle + 4, short(span.median) if span else "–", "end"))
    return svg(parts, f"distributions of {x_label}: {', '.join(rows)}", height=ground + 40)


def _measure(values: Distribution, log: bool) -> Span | None:
    """None where no value can be drawn."""
    array = np.asarray(_between(values) if isinstance(values, Mapping) else values, np.float64).ravel()
    array = array[np.abs(array) < LARGEST]  # NaN is not
    array = array[array > 1 / LARGEST] if log else array
    if not len(array):
        return None
    num_values = None if isinstance(values, Mapping) else len(array)
    return Span(array, num_values, log, *np.quantile(array, SHARES).tolist())


def _between(percentiles: Mapping[int, float]) -> NDArray[np.float64]:
    """Values that have these percentiles."""
    known = sorted(item for item in percentiles.items() if abs(item[1]) < LARGEST)
    if not known:
        return np.empty(0)
    percents, values = zip(*known, strict=True)
    between: NDArray[np.float64] = np.interp(np.linspace(0, 100, NUM_BETWEEN), percents, values)
    return between


def _draw(name: str, span: Span, middle: float, to_x: Scale, colour: str) -> str:
    def across(low: float, high: float, width: float) -> str:
        return (
            f'<line x1="{to_x(low):.1f}" x2="{to_x(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>'
        )

    def upright(value: float, half: float, paint: str) -> str:
        x = to_x(value)
        return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - half:.1f}" y2="{middle + half:.1f}" {paint}/>'

    said = f"{name}: median {span.median:.4g}, p90 {span.p90:.4g}, p99 {span.p99:.4g}"
    said += "" if span.num_values is None else f"; {span.num_values:,} values"
    tick = f'stroke="{colour}" stroke-width="1.5"'
    shape = _outline if len(span.values) >= LEAST_SHAPED else _dots
    return (
        f"<g><title>{html.escape(said)}</title>{shape(span, middle, to_x, colour)}"
        f"{across(span.p5, span.p99, 1.5)}{across(span.p25, span.p75, 7)}"
        f"{upright(span.p90, 4.5, tick)}{upright(span.p99, 7.5, tick)}"
        # Ringed by the paper's colour, so that it is seen on a bar of any colour and of no width.
        f'<circle cx="{to_x(span.median):.1f}" cy="{middle:.1f}" r="4" fill="{colour}" stroke="var(--panel)" '
        f'stroke-width="1.5"/></g>'
    )


def _dots(span: Span, middle: float, to_x: Scale, colour: str) -> str:
    return "".join(
        f'<circle cx="{to_x(value):.1f}" cy="{middle:.1f}" r="3" fill="{colour}" fill-opacity=".35"/>'
        for value in span.values.tolist()
        if span.p1 <= value <= span.p99
    )


def _along(span: Span, values: NDArray[np.float64], start: float, end: float) -> NDArray[np.float64]:
    """Places on the canvas, of many values at once, between those of p1 and p99."""
    low, high = np.log10((span.p1, span.p99)) if span.log else (span.p1, span.p99)
    if not high > low:
        return np.full(len(values), start)
    shares: NDArray[np.float64] = ((np.log10(values) if span.log else values) - low) / (high - low)
    return start + shares * (end - start)


def _outline(span: Span, middle: float, to_x: Scale, colour: str) -> str:
    """How dense the values lie along the axis, to both sides of the row's middle; the densest fills it."""
    start, end = to_x(span.p1), to_x(span.p99)
    edges = np.linspace(start - 4, end + 4, max(9, min(121, int((end - start + 8) / 1.5))))
    within = span.values[(span.values >= span.p1) & (span.values <= span.p99)]
    counts = np.histogram(_along(span, within, start, end), edges)[0].astype(np.float64)
    smooth = np.convolve(counts, (1, 3, 5, 6, 5, 3, 1), "same")
    heights = smooth / smooth.max() * HALF
    centres = (edges[:-1] + edges[1:]) / 2
    above = [f"{x:.1f},{middle - y:.1f}" for x, y in zip(centres, heights, strict=True)]
    below = [f"{x:.1f},{middle + y:.1f}" for x, y in zip(centres[::-1], heights[::-1], strict=True)]
    return f'<polygon points="{" ".join([*above, *below])}" fill="{colour}" fill-opacity=".3"/>'
