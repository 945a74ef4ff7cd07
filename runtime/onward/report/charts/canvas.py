"""Canvas: the SVG element of a chart, its texts, legend and row names, and the chart as a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onward.printable import escape_html
from onward.report.page import COLOURS, series_colour

__all__ = [
    "BOTTOM", "HEIGHT", "LEFT", "NARROW", "RIGHT", "ROW", "TOP", "WIDTH", "Legend", "blank", "cut", "name_column",
    "place_legend", "row_name", "short", "standalone", "svg", "text", "text_width",
]  # fmt: skip

WIDTH, HEIGHT = 460, 250
#: The width of a chart of which three stand side by side, instead of two.
NARROW = 340
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 34
#: Widths of letters in em, in DejaVu Sans, the widest font that browsers use for system-ui; all others are NORMAL.
WIDTHS = (
    dict.fromkeys("ABCDEFGHJKLMNOPQRSTUVXYZ", 0.73)
    | dict.fromkeys("ijlI.,;:'|![]()/ ", 0.35)
    | dict.fromkeys("frt-", 0.42)
    | dict.fromkeys("mwMW@%—", 0.97)
)
NORMAL = 0.63


def svg(parts: Sequence[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The whole SVG element; a screen reader reads `label`."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape_html(label)}">'
        f"{''.join(parts)}</svg>"
    )


def blank(label: str) -> str:
    """An empty chart with the text "no values"."""
    return svg([text(WIDTH / 2, 30, "no values", "middle")], label, height=50)


def text(x: float, y: float, text: str, anchor: str, size: float = 11) -> str:
    """Text at a place; `anchor` is `start`, `middle` or `end`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape_html(text)}</text>'


def text_width(text: str, size: float = 11) -> float:
    """The largest width of a text in pixels; the font is not known."""
    return size * sum(WIDTHS.get(letter, NORMAL if ord(letter) < 0x1100 else 1.0) for letter in text)


def cut(text: str, width: float) -> str:
    """The text, shortened with an ellipsis where it is wider than `width`."""
    if text_width(text) <= width:
        return text
    while text and text_width(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def short(value: float) -> str:
    """A number in few characters."""
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:,.0f}k"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


SWATCH, GAP, LINE = 13, 14, 16


@dataclass(frozen=True)
class Legend:
    """A drawn legend.

    Args:
        svg: The SVG elements.
        height: The height it needs below the chart; 0 beside the title.
    """

    svg: str
    height: float = 0.0


def place_legend(names: Sequence[str], *, title: str = "", width: float = WIDTH, ground: float = HEIGHT) -> Legend:
    """Place the legend in one line beside the y axis title, or in lines below the chart where that line is too long.

    Args:
        names: The names of the series, in the order of their colours.
        title: The y axis title, in the upper left corner.
        width: The width of the chart.
        ground: The lower edge of the chart.
    """
    needed = sum(text_width(name) + SWATCH + GAP for name in names) - GAP
    free = width - RIGHT - (12 + text_width(title) if title else 4)
    return Legend(_line(names, width)) if needed <= free else _lines(names, width, ground)


def _line(names: Sequence[str], width: float) -> str:
    parts, right = [], float(width - RIGHT)
    for index, name in reversed(list(enumerate(names))):
        right -= text_width(name)
        parts.append(_entry(index, name, right, 11))
        right -= SWATCH + GAP
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


#: The height of a row.
ROW = 30
LONGEST = 170.0
MARGIN = 10


def name_column(names: Sequence[str]) -> float:
    """The left edge of the plot, beside the longest name; long names are limited to LONGEST."""
    return min(max(map(text_width, names), default=0.0), LONGEST) + MARGIN


def row_name(name: str, left: float, middle: float) -> str:
    """A row's name, left of the plot that begins at `left`. A long name is cut; the tooltip has it whole."""
    drawn = text(left - MARGIN + 2, middle + 4, cut(name, LONGEST), "end")
    return f"<g><title>{escape_html(name)}</title>{drawn}</g>"


#: Every chart gets these colours, and the others that it uses.
ALWAYS = ("ink", "line", "c0", "c1", "c2", "c3")


def standalone(svg: str) -> str:
    """A chart as an SVG file, with the colours of a report page for light and dark mode."""
    used = [*ALWAYS, *(name for name in COLOURS if name not in ALWAYS and f"var(--{name})" in svg)]
    light, night = (";".join(f"--{name}:{COLOURS[name][at]}" for name in used) for at in (0, 1))
    style = (
        f"<style>:root{{{light};font:11px system-ui,sans-serif;fill:var(--ink)}}"
        f"@media(prefers-color-scheme:dark){{:root{{{night}}}}}</style>"
    )
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'
