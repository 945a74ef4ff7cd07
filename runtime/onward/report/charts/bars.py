"""Bars: groups of them, upright."""

from __future__ import annotations

import html
from collections.abc import Mapping

from onward.report.charts.axes import drawable, grid, scale, ticks, value_range
from onward.report.charts.canvas import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, blank, short, svg, text
from onward.report.charts.legend import place_legend
from onward.report.colours import series_colour

__all__ = ["bars"]


def bars(
    groups: Mapping[str, Mapping[str, float]], *, y_label: str, log_y: bool = False, rule: float | None = None
) -> str:
    """Groups of upright bars.

    Args:
        groups: Group -> series -> value; every group has the same series.
        y_label: Above the axis.
        log_y: Logarithmic y; values must be above 0.
        rule: A dashed line at this value.
    """
    names = list(next(iter(groups.values()), {}))
    if not names:
        return blank(y_label)
    values = [value for group in groups.values() for value in group.values()] + ([rule] if rule else [])
    low, high = value_range([value for value in values if drawable(value, log_y)], log_y, from_zero=True)
    to_y = scale(low, high, HEIGHT - BOTTOM, TOP, log_y)
    slot = (WIDTH - LEFT - RIGHT) / len(groups)
    width = min(34.0, slot * 0.8 / len(names))
    parts = [grid(ticks(low, high, log_y), to_y, y_label)]
    for place, (group, heights) in enumerate(groups.items()):
        middle = LEFT + slot * (place + 0.5)
        parts.append(text(middle, HEIGHT - BOTTOM + 16, group, "middle"))
        for index, name in enumerate(names):
            left = middle + (index - len(names) / 2) * width
            value = heights[name]
            top = to_y(min(max(value, low), high)) if drawable(value, False) else TOP  # NaN stands as high as can be
            parts.append(
                f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{max(width - 2, 0.5):.1f}" rx="2" '
                f'height="{max(HEIGHT - BOTTOM - top, 1):.1f}" fill="{series_colour(index)}">'
                f"<title>{html.escape(name)}: {short(value)}</title></rect>"
            )
            if len(names) <= 4 or width >= 24:  # narrower ones' figures run into each other
                parts.append(text(left + width / 2, top - 4, short(value), "middle", size=9.5))
    if rule is not None and drawable(rule, log_y):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{to_y(rule):.1f}" y2="{to_y(rule):.1f}" '
            f'stroke="var(--bad)" stroke-dasharray="5 4"/>'
        )
    legend = place_legend(names, title=y_label)
    return svg([*parts, legend.svg], f"{y_label}: {', '.join(groups)}", height=HEIGHT + legend.height)
