"""Stacked: bars lying on their side, each of parts."""

from __future__ import annotations

import html
from collections.abc import Mapping

from onward.report.charts.axes import Scale, close_ticks, drawable, scale, upright_grid
from onward.report.charts.canvas import RIGHT, WIDTH, blank, short, svg, text
from onward.report.charts.legend import place_legend
from onward.report.charts.row_names import ROW, name_column, row_name
from onward.report.colours import series_colour

__all__ = ["stacked"]

TOP = 22
#: Room to the right of the longest bar for its total.
FIGURES = 46
THICK = 16


def stacked(rows: Mapping[str, Mapping[str, float]], *, x_label: str) -> str:
    """Bars of parts, as a cold start of its phases, with their total at the end.

    Args:
        rows: Name -> part -> value from 0; a row may lack parts. What is negative, NaN or infinite has no length.
        x_label: Under the axis, with the unit.
    """
    names = list(dict.fromkeys(part for parts in rows.values() for part in parts))
    label = f"{x_label}: {', '.join(rows)}"
    if not names:
        return blank(label)
    high = max(sum(map(_length, parts.values())) for parts in rows.values()) or 1.0
    left, right = name_column(list(rows)), WIDTH - RIGHT - FIGURES
    # One line above the plot, or as many as it takes below the axis's title.
    ground = TOP + ROW * len(rows)
    legend = place_legend(names, ground=ground + 38)
    to_x = scale(0, high, left, right)
    parts = [
        upright_grid(close_ticks(0, high, False), to_x, top=TOP - 2, ground=ground + 2),
        text((left + right) / 2, ground + 32, x_label, "middle"),
    ]
    for index, (name, values) in enumerate(rows.items()):
        middle = TOP + ROW * (index + 0.5)
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
        # Less a gap, which tells neighbours apart whose colours one cannot.
        width = max(to_x(end) - to_x(start) - 1, 0.5 if end > start else 0)
        pieces.append(
            f'<rect x="{to_x(start):.1f}" y="{middle - THICK / 2:.1f}" width="{width:.1f}" height="{THICK}" '
            f'fill="{series_colour(index)}"><title>{html.escape(said)}</title></rect>'
        )
        start = end
    return "".join(pieces) + text(to_x(start) + 5, middle + 4, short(total) if total else "–", "start")
