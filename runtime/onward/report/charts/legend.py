"""Legend: which colour is whose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onward.report.charts.canvas import HEIGHT, LEFT, RIGHT, WIDTH, cut, text, text_width
from onward.report.colours import series_colour

__all__ = ["Legend", "place_legend"]

SWATCH, GAP, LINE = 13, 14, 16


@dataclass(frozen=True)
class Legend:
    """A legend as it is drawn.

    Args:
        svg: Its elements.
        height: What it needs below the chart; 0 where it stands beside the title.
    """

    svg: str
    height: float = 0.0


def place_legend(names: Sequence[str], *, title: str = "", width: float = WIDTH, ground: float = HEIGHT) -> Legend:
    """One line beside the title of the upright axis; where that has no room, as many lines as it takes below the chart.

    Args:
        names: Of the series, in the order of the colours.
        title: What stands in the upper left corner already.
        width: Of the chart.
        ground: The chart's lower edge.
    """
    needed = sum(6.2 * len(name) + 24 for name in names) - 11
    free = width - RIGHT - (12 + 6.2 * len(title) if title else 4)
    return Legend(_line(names, width)) if needed <= free else _lines(names, width, ground)


def _line(names: Sequence[str], width: float) -> str:
    parts, right = [], float(width - RIGHT)
    for index, name in reversed(list(enumerate(names))):
        right -= 6.2 * len(name)
        parts.append(_entry(index, name, right, 11))
        right -= 24
    return "".join(parts)


def _lines(names: Sequence[str], width: float, ground: float) -> Legend:
    parts, left, y = [], float(LEFT), ground + LINE
    for index, name in enumerate(names):
        shown = cut(name, width - RIGHT - LEFT - SWATCH)
        end = left + SWATCH + text_width(shown)
        if end > width - RIGHT and left > LEFT:
            left, y = float(LEFT), y + LINE
            end = left + SWATCH + text_width(shown)
        parts.append(_entry(index, shown, left + SWATCH, y))
        left = end + GAP
    return Legend("".join(parts), y - ground + 6)


def _entry(index: int, name: str, x: float, y: float) -> str:
    return (
        text(x, y, name, "start") + f'<rect x="{x - SWATCH:.1f}" y="{y - 8:.0f}" width="9" height="9" rx="2" '
        f'fill="{series_colour(index)}"/>'
    )
