"""Charts: numbers become SVG that takes its colours from the page, in light and dark.

Drawn here rather than by a plotting library, because the runtime floor writes reports where nothing but
onnxruntime is installed (docs/decisions/0003-charts.md).
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["bars", "heatmap", "histogram", "lines", "picture", "reliability", "standalone"]

WIDTH, HEIGHT = 460, 250
#: Three of these stand side by side where two of the others do.
NARROW = 340
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 24, 34
Scale = Callable[[float], float]


def lines(
    series: Mapping[str, Sequence[float]], *, x: Sequence[float], x_label: str, y_label: str, log_y: bool = False
) -> str:
    """Lines over a shared x axis, with a legend.

    Args:
        series: Name -> one value for each of `x`; NaN is left out.
        x: Positions.
        x_label: Under the axis.
        y_label: Above the axis.
        log_y: Logarithmic y; values must be above 0.
    """
    values = [value for line in series.values() for value in line if math.isfinite(value)]
    low, high = _range(values, log_y)
    to_y = _scale(low, high, HEIGHT - BOTTOM, TOP, log_y)
    to_x = _scale(min(x), max(x) if max(x) > min(x) else min(x) + 1, LEFT, WIDTH - RIGHT)
    parts = [_grid(_ticks(low, high, log_y), to_y, y_label), _x_axis(x, to_x, x_label)]
    for index, (name, line) in enumerate(series.items()):
        points = [(to_x(a), to_y(b), b) for a, b in zip(x, line, strict=True) if math.isfinite(b)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b, _ in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="var(--c{index})" stroke-width="2" stroke-linejoin="round"/>'
        )
        parts += [
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="var(--c{index})"><title>{html.escape(name)}: '
            f"{_short(value)}</title></circle>"
            for a, b, value in points
        ]
    return _svg([*parts, _legend(list(series))], f"{y_label} by {x_label}: {', '.join(series)}")


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
    names = list(next(iter(groups.values())))
    values = [value for group in groups.values() for value in group.values()] + ([rule] if rule else [])
    low, high = _range([value for value in values if math.isfinite(value)], log_y, from_zero=True)
    to_y = _scale(low, high, HEIGHT - BOTTOM, TOP, log_y)
    slot = (WIDTH - LEFT - RIGHT) / len(groups)
    width = min(34.0, slot * 0.8 / len(names))
    parts = [_grid(_ticks(low, high, log_y), to_y, y_label)]
    for place, (group, heights) in enumerate(groups.items()):
        middle = LEFT + slot * (place + 0.5)
        parts.append(_text(middle, HEIGHT - BOTTOM + 16, group, "middle"))
        for index, name in enumerate(names):
            left = middle + (index - len(names) / 2) * width
            value = heights[name]
            top = to_y(min(max(value, low), high)) if math.isfinite(value) else TOP  # NaN stands as high as can be
            parts.append(
                f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" rx="2" '
                f'height="{max(HEIGHT - BOTTOM - top, 1):.1f}" fill="var(--c{index})"><title>{html.escape(name)}: '
                f"{_short(heights[name])}</title></rect>"
                + _text(left + width / 2, top - 4, _short(heights[name]), "middle", size=9.5)
            )
    if rule is not None:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{to_y(rule):.1f}" y2="{to_y(rule):.1f}" '
            f'stroke="var(--bad)" stroke-dasharray="5 4"/>'
        )
    return _svg([*parts, _legend(names)], f"{y_label}: {', '.join(groups)}")


def heatmap(counts: NDArray[np.integer], labels: Sequence[str]) -> str:
    """A confusion matrix: true classes down, predicted classes across; the share of a row decides the colour."""
    size = len(labels)
    cell = 340 / size
    left, top = 92.0, 64.0
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    parts = [_text(left + 170, 12, "predicted", "middle"), _text(4, top - 8, "true", "start")]
    for row in range(size):
        name = labels[row] if len(labels[row]) <= 14 else labels[row][:13] + "…"
        parts.append(_text(left - 6, top + (row + 0.5) * cell + 4, name, "end"))
        x = left + (row + 0.5) * cell
        parts.append(f'<text transform="translate({x + 3:.1f},{top - 6}) rotate(-45)">{html.escape(name[:9])}</text>')
        for column in range(size):
            share, count = float(shares[row, column]), int(counts[row, column])
            colour = "var(--c0)" if row == column else "var(--bad)"
            opacity = 0.05 + 0.8 * share if row == column else 0.04 + 0.9 * min(1.0, 4 * share)
            x, y = left + column * cell, top + row * cell
            title = html.escape(f"{labels[row]} taken for {labels[column]}: {count}")
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell - 1.5:.1f}" height="{cell - 1.5:.1f}" rx="2" '
                f'fill="{colour}" fill-opacity="{opacity if count else 0.04:.3f}"><title>{title}</title></rect>'
            )
            if count and size <= 20:
                parts.append(_text(x + cell / 2, y + cell / 2 + 3, str(count), "middle", size=10))
    return _svg(parts, "confusion matrix", width=left + 385, height=top + 346)


def reliability(bins: Sequence[tuple[float, float, int]]) -> str:
    """A reliability diagram: is what is said with a confidence of 80 % right 80 times in 100?

    A bar stands for the accuracy of the images in one of the equally wide bins of the confidence, a line across it for
    their mean confidence; the dashed diagonal is where the two agree.

    Args:
        bins: From confidence 0 to 1: (mean confidence, accuracy, number of images); of an empty one only the number
            is looked at.

    Source: C. Guo and others, "On calibration of modern neural networks", 2017, figure 1.
    """
    height = HEIGHT + 90.0
    to_x, to_y = _scale(0, 1, LEFT, WIDTH - RIGHT), _scale(0, 1, height - BOTTOM, TOP + 20)
    width = (WIDTH - RIGHT - LEFT) / len(bins)
    fifths = [index / 5 for index in range(6)]
    parts = [_grid(fifths, to_y, "")]
    parts += [_text(to_x(value), height - BOTTOM + 15, _short(value), "middle") for value in fifths]
    parts += [
        _text((LEFT + WIDTH - RIGHT) / 2, height - 4, "confidence", "middle"),
        _text(LEFT - 6, TOP + 8, "images", "end", size=9.5),
        f'<line x1="{to_x(0):.1f}" x2="{to_x(1):.1f}" y1="{to_y(0):.1f}" y2="{to_y(1):.1f}" '
        f'stroke="var(--soft)" stroke-dasharray="5 4"/>',
    ]
    for index, (confidence, accuracy, count) in enumerate(bins):
        left = LEFT + index * width
        written = f"{count / 1e3:.1f}k" if 1e3 <= count < 1e4 else _short(count)  # 1,234 is wider than a bar
        parts.append(_text(left + width / 2, TOP + 8, written, "middle", size=9.5))
        if not count:
            continue
        top, across = to_y(accuracy), to_y(confidence)
        title = f"{count:,} images: confidence {confidence:.1%}, accuracy {accuracy:.1%}"
        parts.append(
            f'<rect x="{left + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" rx="2" '
            f'height="{max(height - BOTTOM - top, 1):.1f}" fill="var(--c0)" fill-opacity=".6">'
            f"<title>{title}</title></rect>"
            f'<line x1="{left + 1:.1f}" x2="{left + width - 1:.1f}" y1="{across:.1f}" y2="{across:.1f}" '
            f'stroke="var(--c1)" stroke-width="3"><title>{title}</title></line>'
        )
    return _svg([*parts, _legend(["accuracy", "mean confidence"])], "accuracy by confidence", height=height)


def histogram(
    counts: Mapping[str, Sequence[int]],
    *,
    edges: Sequence[float],
    x_label: str,
    marks: Mapping[str, float] | None = None,
) -> str:
    """Distributions over a logarithmic axis, each as shares of its own values: all but the last filled, that a line.

    A bin that holds anything is drawn at least two units high: one value among thousands is what one looks for.

    Args:
        counts: Name -> number of values in each bin.
        edges: Of the bins, above 0 and rising, one more than there are bins.
        x_label: Under the axis.
        marks: Name -> a place on the axis, for a dashed line.
    """
    shares = {name: [100 * item / max(sum(values), 1) for item in values] for name, values in counts.items()}
    low, high = _range([item for values in shares.values() for item in values], False, from_zero=True)
    to_x = _scale(edges[0], edges[-1], LEFT, NARROW - RIGHT, log=True)
    to_y = _scale(low, high, HEIGHT - BOTTOM, TOP + 14)
    parts = [_grid(_ticks(low, high, False), to_y, "% of values", NARROW), _decades(edges, to_x, x_label)]
    for index, values in enumerate(shares.values()):
        is_line = index == len(shares) - 1
        paint = f'fill-opacity="{0 if is_line else 0.3}" stroke-width="{1.8 if is_line else 0}"'
        parts.append(
            f'<polyline points="{_steps(values, edges, to_x, to_y)}" fill="var(--c{index})" stroke="var(--c{index})" '
            f'{paint} stroke-linejoin="round"/>'
        )
    for place, (left, right) in enumerate(pairwise(edges)):
        said = "; ".join(f"{name} {values[place]:,} of {sum(values):,}" for name, values in counts.items())
        parts.append(
            f'<rect x="{to_x(left):.1f}" y="{TOP}" width="{to_x(right) - to_x(left):.1f}" '
            f'height="{HEIGHT - BOTTOM - TOP}" fill-opacity="0"><title>{_short(left)} to {_short(right)}: '
            f"{html.escape(said)}</title></rect>"
        )
    shown = [(name, to_x(value)) for name, value in (marks or {}).items() if edges[0] <= value <= edges[-1]]
    parts += [_mark(name, x, to_right=index == len(shown) - 1) for index, (name, x) in enumerate(shown)]
    return _svg(
        [*parts, _legend(list(counts), NARROW)], f"distribution of {x_label}: {', '.join(counts)}", width=NARROW
    )


def picture(image: NDArray[np.uint8], *, max_side_px: int | None = None) -> str:
    """A uint8 `(height, width, channels)` image as a PNG data URI, made smaller where a side is longer than asked."""
    data = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max_side_px is not None:
        shown.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def standalone(svg: str) -> str:
    """A chart as a file of its own, with the colours that a page would give it, in light and dark."""
    colours = {"ink": "#1b1f24", "line": "#dfe3e8", "c0": "#2460d8", "c1": "#d9570a", "c2": "#14805e", "c3": "#8a3fc4"}
    dark = {"ink": "#e6e8eb", "line": "#333a42", "c0": "#6ea0ff", "c1": "#ff9757", "c2": "#4cc79f", "c3": "#c48df0"}
    light, night = (";".join(f"--{name}:{value}" for name, value in item.items()) for item in (colours, dark))
    style = (
        f"<style>:root{{{light};font:11px system-ui,sans-serif;fill:var(--ink)}}"
        f"@media(prefers-color-scheme:dark){{:root{{{night}}}}}</style>"
    )
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{style}{body}\n'


def _range(values: Sequence[float], log: bool, from_zero: bool = False) -> tuple[float, float]:
    if log:
        values = [value for value in values if value > 0] or [1.0]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log:
        return 10.0 ** math.floor(math.log10(low) - 0.05), 10.0 ** math.ceil(math.log10(high) + 0.05)
    if from_zero:
        low = min(low, 0.0)
    margin = (high - low) * 0.06 or 0.5
    return (low if low == 0 else low - margin), high + margin


def _scale(low: float, high: float, start: float, end: float, log: bool = False) -> Scale:
    if log:
        low, high = math.log10(low), math.log10(high)
        return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start)
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        return [10.0**power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= min((1, 2, 2.5, 5, 10), key=lambda factor: abs((high - low) / (step * factor) - 5))
    return [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _grid(ticks: Sequence[float], to_y: Scale, label: str, width: float = WIDTH) -> str:
    marks = "".join(
        f'<line x1="{LEFT}" x2="{width - RIGHT}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}" stroke="var(--line)"/>'
        + _text(LEFT - 6, to_y(tick) + 4, _short(tick), "end")
        for tick in ticks
    )
    return marks + _text(4, 11, label, "start")


def _x_axis(x: Sequence[float], to_x: Scale, label: str) -> str:
    step = max(1, math.ceil(len(x) / 10))
    marks = "".join(_text(to_x(value), HEIGHT - BOTTOM + 15, _short(value), "middle") for value in x[::step])
    return marks + _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, label, "middle")


def _steps(shares: Sequence[float], edges: Sequence[float], to_x: Scale, to_y: Scale) -> str:
    """The outline of a histogram, from the axis up and back to it."""
    ground = float(HEIGHT - BOTTOM)
    points = [(to_x(edges[0]), ground)]
    for share, (left, right) in zip(shares, pairwise(edges), strict=True):
        top = min(to_y(share), ground - 2) if share else ground
        points += [(to_x(left), top), (to_x(right), top)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in [*points, (to_x(edges[-1]), ground)])


def _decades(edges: Sequence[float], to_x: Scale, label: str) -> str:
    ticks = [tick for tick in _ticks(edges[0], edges[-1], True) if edges[0] * 0.999 <= tick <= edges[-1] * 1.001]
    labelled = ticks[:: math.ceil(len(ticks) / 7)]
    marks = "".join(_text(to_x(value), HEIGHT - BOTTOM + 15, _short(value), "middle") for value in labelled)
    return marks + _text((to_x(edges[0]) + to_x(edges[-1])) / 2, HEIGHT - 4, label, "middle")


def _mark(name: str, x: float, to_right: bool) -> str:
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{HEIGHT - BOTTOM}" stroke="var(--bad)" '
        f'stroke-dasharray="5 4"/>' + _text(x + (4 if to_right else -4), TOP + 8, name, "start" if to_right else "end")
    )


def _legend(names: Sequence[str], width: float = WIDTH) -> str:
    parts, right = [], float(width - RIGHT)
    for index, name in reversed(list(enumerate(names))):
        right -= 6.2 * len(name)
        parts.append(_text(right, 11, name, "start"))
        parts.append(f'<rect x="{right - 13:.1f}" y="3" width="9" height="9" rx="2" fill="var(--c{index})"/>')
        right -= 24
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, size: float = 11) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{html.escape(text)}</text>'


def _short(value: float) -> str:
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


def _svg(parts: Sequence[str], label: str, width: float = WIDTH, height: float = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{html.escape(label, quote=True)}">'
        f"{''.join(parts)}</svg>"
    )
