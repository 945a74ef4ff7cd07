"""Canvas: the SVG element that a chart is drawn on, and the texts on it.

Legend: which colour is whose.

Axes: from values to places on the canvas, and the ticks that say so.

Row names: what stands to the left of horizontal rows.

Standalone: a chart outside of a page.

Picture: pixels become a data URI.
"""

from __future__ import annotations

import base64
import html
import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.report.colours import AROUND, SERIES, series_colour

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "NARROW",
    "RIGHT",
    "ROW",
    "TOP",
    "WIDTH",
    "Legend",
    "Scale",
    "blank",
    "close_range",
    "close_ticks",
    "cut",
    "decades",
    "drawable",
    "grid",
    "marked_axis",
    "name_column",
    "picture",
    "place_legend",
    "row_name",
    "scale",
    "short",
    "standalone",
    "svg",
    "text",
    "text_width",
    "ticks",
    "upright_grid",
    "value_range",
    "written",
    "x_axis",
]


WIDTH, HEIGHT = 460, 250
#: Three of these stand side by side where two of the others do.
NARROW = 340
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 34
#: Letters' widths in em, of the widest font that browsers take for system-ui (DejaVu Sans); others are NORMAL.
WIDTHS = (
    dict.fromkeys("ABCDEFGHJKLMNOPQRSTUVXYZ", 0.73)
    | dict.fromkeys("ijlI.,;:'|![]()/ ", 0.35)
    | dict.fromkeys("frt-", 0.42)
    | dict.fromkeys("mwMW@%—", 0.97)
)
NORMAL = 0.63


def svg(parts: Sequence[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    """The element whole; `label` is what a screen reader says."""
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{html.escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )


def blank(label: str) -> str:
    """A chart of nothing, which says so."""
    return svg([text(WIDTH / 2, 30, "no values", "middle")], label, height=50)


def text(x: float, y: float, text: str, anchor: str, size: float = 11) -> str:
    """Text at a place; `anchor` is `start`, `middle` or `end`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(text)}</text>'


def text_width(text: str, size: float = 11) -> float:
    """How wide a text becomes at most, as far as that is known without its font."""
    return size * sum(WIDTHS.get(letter, NORMAL if ord(letter) < 0x1100 else 1.0) for letter in text)


def cut(text: str, width: float) -> str:
    """The text, or as much of its beginning as is no wider than `width`, and an ellipsis."""
    if text_width(text) <= width:
        return text
    while text and text_width(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def short(value: float) -> str:
    """A figure in few letters."""
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


Scale = Callable[[float], float]
#: What a float32 can hold is drawn; beyond, differences of two values would no longer be finite.
LARGEST = 1e38


def drawable(value: float, log: bool) -> bool:
    """Whether a value has a place on such an axis: no NaN or infinity, and on a logarithmic one nothing up to 0."""
    return abs(value) < LARGEST and (not log or value > 1 / LARGEST)


def value_range(values: Sequence[float], log: bool, from_zero: bool = False) -> tuple[float, float]:
    """Where an axis begins and ends: a margin around the values, or whole decades."""
    if log:
        values = [value for value in values if value > 0] or [1.0]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        return 10.0 ** math.floor(math.log10(low) - 0.05), 10.0 ** math.ceil(math.log10(high) + 0.05)
    if from_zero:
        low = min(low, 0.0)
    margin = max((high - low) * 0.06 or 0.5, abs(high) * 1e-9)  # less would be lost in rounding
    return (low if low == 0 else low - margin), high + margin


def close_range(values: Sequence[float], log: bool, margin: float = 0.06) -> tuple[float, float]:
    """Where an axis begins and ends that is no longer than it must be; never empty, of one value or of none either."""
    if not values:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(values), max(values)
    if log:
        factor = max(high / low, 1.2) ** margin if high / low > 1.02 else 1.5
        return low / factor, high * factor
    space = (high - low) * margin
    space = space if space > abs(high) * 1e-6 else abs(high) * 0.05 or 0.5
    return low - space, high + space


def scale(low: float, high: float, start: float, end: float, log: bool = False) -> Scale:
    """From values to places: `low` lies at `start`, `high` at `end`."""
    if log:
        low, high = math.log10(low), math.log10(high)
        return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start)
    return lambda value: start + (value - low) / (high - low) * (end - start)


def ticks(low: float, high: float, log: bool) -> list[float]:
    """About five round values, or every power of ten."""
    if log:
        return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    smallest = sys.float_info.min  # a quarter of a smaller range may be 0
    step = 10.0 ** math.floor(math.log10(max((high - low) / 4, smallest)))
    step *= min((1, 2, 2.5, 5, 10), key=lambda factor: abs((high - low) / (step * factor) - 5))
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def close_ticks(low: float, high: float, log: bool) -> list[float]:
    """Round values within a range, of a logarithmic one that is shorter than a few decades, too."""
    if not log:
        return ticks(low, high, False)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) >= 4:
            return found[:: math.ceil(len(found) / 8)]
    return found if len(found) >= 3 else ticks(low, high, False)


def written(ticks: Sequence[float]) -> list[str]:
    """The ticks in few letters, but in as many as tell each exactly."""
    if all(map(_is_short, ticks)):
        return [short(tick) for tick in ticks]
    decimals = 0
    while decimals < 12 and any(not math.isclose(round(tick, decimals), tick, rel_tol=1e-9) for tick in ticks):
        decimals += 1
    return [f"{tick:,.{decimals}f}" for tick in ticks]


def _is_short(tick: float) -> bool:
    """Whether `short` loses nothing of it."""
    size = abs(tick)
    digits = 1 if size < 1e-3 or size >= 1e7 else 2 if 1e4 <= size < 1e5 else 3
    return math.isclose(float(f"{tick:.{digits}g}"), tick, rel_tol=1e-9)


def grid(ticks: Sequence[float], to_y: Scale, label: str, width: float = WIDTH) -> str:
    """Lines across, each with its value, and the title of the upright axis."""
    marks = "".join(
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}" stroke="var(--line)"/>'
        + text(LEFT - 6, to_y(tick) + 4, short(tick), "end")
        for tick in ticks
    )
    return marks + text(4, 11, label, "start")


def upright_grid(ticks: Sequence[float], to_x: Scale, *, top: float, ground: float) -> str:
    """Upright lines, each with its value below the ground."""
    return "".join(
        f'<line x1="{to_x(tick):.1f}" x2="{to_x(tick):.1f}" y1="{top:.1f}" y2="{ground:.1f}" stroke="var(--line)"/>'
        + text(to_x(tick), ground + 15, name, "middle")
        for tick, name in zip(ticks, written(ticks), strict=True)
    )


def x_axis(x: Sequence[float], to_x: Scale, label: str) -> str:
    """Some of the positions below the ground, and the title of the axis."""
    step = max(1, math.ceil(len(x) / 10))
    marks = "".join(text(to_x(value), HEIGHT - BOTTOM + 15, short(value), "middle") for value in x[::step])
    return marks + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "middle")


def marked_axis(x: Sequence[float], to_x: Scale, label: str) -> str:
    """Each of the positions below the ground but those that would run into the one before, and the title."""
    marks, end = [], 0.0
    for value in sorted(set(x)):
        name = short(value)
        half = text_width(name) / 2
        if to_x(value) - half > end:
            marks.append(text(to_x(value), HEIGHT - BOTTOM + 15, name, "middle"))
            end = to_x(value) + half + 4
    return "".join(marks) + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "middle")


def decades(edges: Sequence[float], to_x: Scale, label: str) -> str:
    """The powers of ten below the ground, and the title of the axis."""
    within = [tick for tick in ticks(edges[0], edges[-1], True) if edges[0] * 0.999 <= tick <= edges[-1] * 1.001]
    labelled = within[:: math.ceil(len(within) / 7)] if within else []
    marks = "".join(text(to_x(value), HEIGHT - BOTTOM + 15, short(value), "middle") for value in labelled)
    return marks + text((to_x(edges[0]) + to_x(edges[-1])) / 2, HEIGHT - 4, label, "middle")


#: From one row to the next.
ROW = 30
LONGEST = 170.0
MARGIN = 10


def name_column(names: Sequence[str]) -> float:
    """Where the plot begins: beside the longest name, or where that would leave too little of it."""
    return min(max(map(text_width, names), default=0.0), LONGEST) + MARGIN


def row_name(name: str, left: float, middle: float) -> str:
    """A name beside the plot that begins at `left`; cut where it is too long, and whole when pointed at."""
    drawn = text(left - MARGIN + 2, middle + 4, cut(name, LONGEST), "end")
    return f"<g><title>{html.escape(name)}</title>{drawn}</g>"


#: Given to every chart; of the others those that it uses.
ALWAYS = ("ink", "line", "c0", "c1", "c2", "c3")


def standalone(svg: str) -> str:
    """A chart as a file of its own, with the colours that a page would give it, in light and dark."""
    colours = AROUND | {f"c{index}": pair for index, pair in enumerate(SERIES)}
    used = [*ALWAYS, *(name for name in colours if name not in ALWAYS and f"var(--{name})" in svg)]
    light, night = (";".join(f"--{name}:{colours[name][at]}" for name in used) for at in (0, 1))
    style = (
        f"<style>:root{{{light};font:11px system-ui,sans-serif;fill:var(--ink)}}"
        f"@media(prefers-color-scheme:dark){{:root{{{night}}}}}</style>"
    )
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'


def picture(image: NDArray[np.uint8], *, max_side_px: int | None = None) -> str:
    """A uint8 `(height, width, channels)` image as a PNG data URI, made smaller where a side is longer than asked."""
    data = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max_side_px is not None:
        shown.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
