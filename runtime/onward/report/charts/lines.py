"""Lines: series over a shared x axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onward.printable import escape_html
from onward.report.charts.axes import Scale, close_range, drawable, grid, marked_axis, scale, ticks, value_range, x_axis
from onward.report.charts.canvas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, place_legend, short, svg
from onward.report.page import series_colour

__all__ = ["lines"]


def lines(
    series: Mapping[str, Sequence[float]],
    *,
    x: Sequence[float],
    x_label: str,
    y_label: str,
    log_y: bool = False,
    log_x: bool = False,
) -> str:
    """Lines over a shared x axis, with a legend.

    Args:
        series: Name -> one value per `x`; NaN is left out.
        x: Positions.
        x_label: The title of the x axis.
        y_label: The title of the y axis.
        log_y: Whether the y axis is logarithmic; values of 0 or less are left out.
        log_x: Whether the x axis is logarithmic, with a tick at every position, e.g. for batch sizes; positions of 0 or
            less are left out.
    """
    values = [value for line in series.values() for value in line if drawable(value, log_y)]
    low, high = value_range(values, log_y)
    to_y = scale(low, high, HEIGHT - BOTTOM, TOP, log_y)
    places = [value for value in x if drawable(value, log_x)]
    to_x = _x_scale(places, log_x)
    axis = marked_axis(places, to_x, x_label) if log_x else x_axis(places, to_x, x_label)
    parts = [grid(ticks(low, high, log_y), to_y, y_label), axis]
    for index, (name, line) in enumerate(series.items()):
        points = [
            (to_x(a), to_y(b), b) for a, b in zip(x, line, strict=True) if drawable(a, log_x) and drawable(b, log_y)
        ]
        parts.append(_line(name, points, series_colour(index)))
    legend = place_legend(list(series), title=y_label)
    label = f"{y_label} by {x_label}: {', '.join(series)}"
    return svg([*parts, legend.svg], label, height=HEIGHT + legend.height)


def _x_scale(x: Sequence[float], log: bool) -> Scale:
    if log:  # a margin, so that the first and last positions' names lie below the plot
        return scale(*close_range(x, True, margin=0.04), LEFT, WIDTH - RIGHT, log=True)
    first, last = (min(x), max(x)) if x else (0.0, 1.0)
    return scale(first, last if last > first else first + max(1, abs(first) * 1e-9), LEFT, WIDTH - RIGHT)


def _line(name: str, points: Sequence[tuple[float, float, float]], colour: str) -> str:
    """A line through points (x, y, value), with a dot at each."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    line = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'
    return line + "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"><title>{escape_html(name)}: '
        f"{short(value)}</title></circle>"
        for x, y, value in points
    )
