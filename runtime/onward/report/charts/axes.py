"""Axes: value ranges, scales from values to coordinates, ticks and grid lines."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence

from onward.report.charts.canvas import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, short, text, text_width

__all__ = [
    "LARGEST", "Scale", "close_range", "close_ticks", "decades", "drawable", "grid", "marked_axis", "scale", "ticks",
    "upright_grid", "value_range", "written", "x_axis",
]  # fmt: skip

Scale = Callable[[float], float]
#: Larger values are not drawn: the difference of two of them may not be finite in float32.
LARGEST = 1e38


def drawable(value: float, log: bool) -> bool:
    """Whether an axis can show a value: it is finite, and above 0 on a logarithmic axis."""
    return abs(value) < LARGEST and (not log or value > 1 / LARGEST)


def value_range(values: Sequence[float], log: bool, from_zero: bool = False) -> tuple[float, float]:
    """The limits of an axis: the values with a margin, or whole decades on a logarithmic axis."""
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
    """The limits of a tight axis. They differ even for one value or none."""
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
    """Map values to coordinates: `low` to `start`, `high` to `end`."""
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
    """Round values within a range; a logarithmic range may be shorter than a decade."""
    if not log:
        return ticks(low, high, False)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) >= 4:
            return found[:: math.ceil(len(found) / 8)]
    return found if len(found) >= 3 else ticks(low, high, False)


def written(ticks: Sequence[float]) -> list[str]:
    """Tick labels: as short as possible, and exact."""
    if all(map(_is_short, ticks)):
        return [short(tick) for tick in ticks]
    decimals = 0
    while decimals < 12 and any(not math.isclose(round(tick, decimals), tick, rel_tol=1e-9) for tick in ticks):
        decimals += 1
    return [f"{tick:,.{decimals}f}" for tick in ticks]


def _is_short(tick: float) -> bool:
    """Whether `short` writes it exactly."""
    size = abs(tick)
    digits = 1 if size < 1e-3 or size >= 1e7 else 2 if 1e4 <= size < 1e5 else 3
    return math.isclose(float(f"{tick:.{digits}g}"), tick, rel_tol=1e-9)


def grid(ticks: Sequence[float], to_y: Scale, label: str, width: float = WIDTH) -> str:
    """Horizontal grid lines with their values, and the y axis title."""
    marks = "".join(
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}" stroke="var(--line)"/>'
        + text(LEFT - 6, to_y(tick) + 4, short(tick), "end")
        for tick in ticks
    )
    return marks + text(4, 11, label, "start")


def upright_grid(ticks: Sequence[float], to_x: Scale, *, top: float, ground: float) -> str:
    """Vertical grid lines with their values below the plot."""
    return "".join(
        f'<line x1="{to_x(tick):.1f}" x2="{to_x(tick):.1f}" y1="{top:.1f}" y2="{ground:.1f}" stroke="var(--line)"/>'
        + text(to_x(tick), ground + 15, name, "middle")
        for tick, name in zip(ticks, written(ticks), strict=True)
    )


def x_axis(x: Sequence[float], to_x: Scale, label: str) -> str:
    """Some of the x values below the plot, and the x axis title."""
    step = max(1, math.ceil(len(x) / 10))
    marks = "".join(text(to_x(value), HEIGHT - BOTTOM + 15, short(value), "middle") for value in x[::step])
    return marks + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "middle")


def marked_axis(x: Sequence[float], to_x: Scale, label: str) -> str:
    """The x values below the plot, without those that would overlap, and the x axis title."""
    marks, end = [], 0.0
    for value in sorted(set(x)):
        name = short(value)
        half = text_width(name) / 2
        if to_x(value) - half > end:
            marks.append(text(to_x(value), HEIGHT - BOTTOM + 15, name, "middle"))
            end = to_x(value) + half + 4
    return "".join(marks) + text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "middle")


def decades(edges: Sequence[float], to_x: Scale, label: str) -> str:
    """Powers of ten below the plot, and the x axis title."""
    within = [tick for tick in ticks(edges[0], edges[-1], True) if edges[0] * 0.999 <= tick <= edges[-1] * 1.001]
    labelled = within[:: math.ceil(len(within) / 7)] if within else []
    marks = "".join(text(to_x(value), HEIGHT - BOTTOM + 15, short(value), "middle") for value in labelled)
    return marks + text((to_x(edges[0]) + to_x(edges[-1])) / 2, HEIGHT - 4, label, "middle")
