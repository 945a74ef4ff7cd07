"""Bars: groups of upright bars, and horizontal bars stacked from parts."""

from __future__ import annotations

from collections.abc import Mapping

from onward.printable import escape_html
from onward.report.charts.axes import Scale, close_ticks, drawable, grid, scale, ticks, upright_grid, value_range
from onward.report.charts.canvas import (
    BOTTOM,
    HEIGHT,
    LEFT,
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

__all__ = ["bars", "stacked"]


def bars(
    groups: Mapping[str, Mapping[str, float]], *, y_label: str, log_y: bool = False, rule: float | None = None
) -> str:
    """Groups of upright bars.

    Args:
        groups: Group -> series -> value; every group has the same series.
        y_label: The title of the y axis.
        log_y: Whether the y axis is logarithmic; values must be above 0.
        rule: The value of a dashed line.
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
                f"<title>{escape_html(name)}: {short(value)}</title></rect>"
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


#: The y coordinate of the first row of `stacked`.
ROWS_TOP = 22
#: The space for the total, right of the longest bar.
FIGURES = 46
THICK = 16


def stacked(rows: Mapping[str, Mapping[str, float]], *, x_label: str) -> str:
    """Horizontal bars of parts, e.g. the phases of a cold start, with their total at the end.

    Args:
        rows: Name -> part -> value from 0; a row may lack parts. Negative, NaN and infinite values have no length.
        x_label: The title of the x axis, with the unit.
    """
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    label = f"{x_label}: {', '.join(rows)}"
    if not names:
        return blank(label)
    high = max(sum(map(_length, parts.values())) for parts in rows.values()) or 1.0
    left, right = name_column(list(rows)), WIDTH - RIGHT - FIGURES
    # one line above the plot, or several lines below the axis title
    ground = ROWS_TOP + ROW * len(rows)
    legend = place_legend(names, ground=ground + 38)
    to_x = scale(0, high, left, right)
    parts = [
        upright_grid(close_ticks(0, high, False), to_x, top=ROWS_TOP - 2, ground=ground + 2),
        text((left + right) / 2, ground + 32, x_label, "middle"),
    ]
    for index, (name, values) in enumerate(rows.items()):
        middle = ROWS_TOP + ROW * (index + 0.5)
        parts += [row_name(name, left, middle), _bar(name, values, names, middle, to_x)]
    return svg([*parts, legend.svg], label, height=ground + 40 + legend.height)


def _length(value: float) -> float:
    return value if drawable(value, False) and value > 0 else 0.0


def _bar(name: str, values: Mapping[str, float], names: list[str], middle: float, to_x: Scale) -> str:
    total = sum(map(_length, values.values()))
    pieces, start = [], 0.0
    for index, part in enumerate(names):
        if part not in values:
            continue
        end = start + _length(values[part])
        said = f"{name}, {part}: {values[part]:.4g} of {total:.4g}"
        # a gap separates neighbours of similar colours
        width = max(to_x(end) - to_x(start) - 1, 0.5 if end > start else 0)
        pieces.append(
            f'<rect x="{to_x(start):.1f}" y="{middle - THICK / 2:.1f}" width="{width:.1f}" height="{THICK}" '
            f'fill="{series_colour(index)}"><title>{escape_html(said)}</title></rect>'
        )
        start = end
    return "".join(pieces) + text(to_x(start) + 5, middle + 4, short(total) if total else "–", "start")
