"""Scatter: named points, each with its name beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onward.printable import escape_html
from onward.report.charts.axes import Scale, close_range, close_ticks, drawable, scale, upright_grid, written
from onward.report.charts.canvas import BOTTOM, LEFT, RIGHT, TOP, WIDTH, blank, cut, short, svg, text, text_width
from onward.report.page import series_colour

__all__ = ["scatter"]

HEIGHT = 300
RADIUS = 4.5
#: Font size of a name.
SIZE = 10.5
#: Distances of a name from its point that are tried, the nearest first.
DISTANCES = (0, 12, 24, 36, 48, 60, 72, 84)
LONGEST = 190.0


@dataclass(frozen=True)
class Box:
    """A rectangle that a drawn part fills."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


@dataclass(frozen=True)
class Point:
    """A point on the canvas, with the interval of its value."""

    name: str
    x: float
    y: float
    colour: str
    said: str
    error: tuple[float, float] | None


def scatter(
    points: Mapping[str, tuple[float, float]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = True,
    log_y: bool = False,
    errors: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """Named points, e.g. accuracy against latency.

    Args:
        points: Name -> (x, y). A point with a NaN, an infinite value or one without a logarithm is left out.
        x_label: The title of the x axis.
        y_label: The title of the y axis.
        log_x: Whether the x axis is logarithmic.
        log_y: Whether the y axis is logarithmic.
        errors: Name -> (lowest, highest) y, drawn as an error bar.
    """
    label = f"{y_label} by {x_label}: {', '.join(points)}"
    shown = {name: (x, y) for name, (x, y) in points.items() if drawable(x, log_x) and drawable(y, log_y)}
    if not shown:
        return blank(label)
    bounds = {name: pair for name, pair in (errors or {}).items() if name in shown and _spans(pair, log_y)}
    x_range = close_range([x for x, _ in shown.values()], log_x, margin=0.12)
    ends = [end for pair in bounds.values() for end in pair]
    y_range = close_range([y for _, y in shown.values()] + ends, log_y, margin=0.1)
    to_x = scale(*x_range, LEFT, WIDTH - RIGHT, log_x)
    to_y = scale(*y_range, HEIGHT - BOTTOM, TOP, log_y)
    placed = [
        Point(
            name,
            to_x(x),
            to_y(y),
            series_colour(list(points).index(name)),
            f"{name}: {short(x)}; {y:.5g}",
            (to_y(bounds[name][0]), to_y(bounds[name][1])) if name in bounds else None,
        )
        for name, (x, y) in shown.items()
    ]
    parts = [
        _across(close_ticks(*y_range, log_y), to_y, y_label),
        upright_grid(close_ticks(*x_range, log_x), to_x, top=TOP, ground=HEIGHT - BOTTOM),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label, "middle"),
        *map(_mark, placed),
        *_names(placed),
    ]
    return svg(parts, label, height=HEIGHT)


def _spans(pair: tuple[float, float], log: bool) -> bool:
    return all(drawable(value, log) for value in pair)


def _across(ticks: Sequence[float], to_y: Scale, label: str) -> str:
    marks = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{to_y(tick):.1f}" y2="{to_y(tick):.1f}" stroke="var(--line)"/>'
        + text(LEFT - 6, to_y(tick) + 4, name, "end")
        for tick, name in zip(ticks, written(ticks), strict=True)
    )
    return marks + text(4, 11, label, "start")


def _mark(point: Point) -> str:
    error = ""
    if point.error:
        low, high = point.error
        error = f'<path d="M{point.x:.1f} {low:.1f}V{high:.1f}m-3 0h6M{point.x - 3:.1f} {low:.1f}h6" fill="none" '
        error += f'stroke="{point.colour}" stroke-width="1.3"/>'
    return (
        f'{error}<circle cx="{point.x:.1f}" cy="{point.y:.1f}" r="{RADIUS}" fill="{point.colour}" '
        f'stroke="var(--panel)"><title>{escape_html(point.said)}</title></circle>'
    )


def _names(points: Sequence[Point]) -> Iterator[str]:
    """Place each name where it covers least, in crowded areas first; a distant name gets a line to its point."""
    taken = [box for point in points for box in _drawn(point)]
    for point in sorted(points, key=lambda point: -_neighbours(point, points)):
        ranked = ((_cost(box, taken) + distance, at, box) for at, (distance, box) in enumerate(_places(point)))
        _, _, box = min(ranked, key=lambda item: item[:2])
        leader = _leader(point, box)
        taken += [(8, box), *(_along(point, box) if leader else ())]
        yield leader + _name(point, box)


def _name(point: Point, box: Box) -> str:
    """The name, aligned to the side of the box near its point, because its exact width is not known."""
    x, anchor = (box.left + box.right) / 2, "middle"
    if box.left >= point.x:
        x, anchor = box.left, "start"
    elif box.right <= point.x:
        x, anchor = box.right, "end"
    name = text(x, box.bottom - 2.5, cut(point.name, LONGEST), anchor, size=SIZE)
    # a rim in the background colour keeps it readable on other points' error bars
    return f'<g stroke="var(--panel)" stroke-width="3" paint-order="stroke">{name}</g>'


def _drawn(point: Point) -> Iterator[tuple[float, Box]]:
    """Boxes that a name should not cover, with weights: a dot weighs more than its error bar."""
    yield 6, Box(point.x - RADIUS, point.y - RADIUS, point.x + RADIUS, point.y + RADIUS)
    if point.error:
        yield 1.2, Box(point.x - 2, min(point.error), point.x + 2, max(point.error))


def _along(point: Point, box: Box) -> Iterator[tuple[float, Box]]:
    """The line to a name as a chain of small boxes."""
    x, y = _nearest(point, box)
    for step in range(1, 8):
        at_x, at_y = point.x + (x - point.x) * step / 8, point.y + (y - point.y) * step / 8
        yield 4, Box(at_x - 2, at_y - 2, at_x + 2, at_y + 2)


def _neighbours(point: Point, points: Sequence[Point]) -> int:
    return sum(abs(point.x - other.x) < 100 and abs(point.y - other.y) < 20 for other in points)


def _places(point: Point) -> Iterator[tuple[float, Box]]:
    """Possible places of a name with their distance: beside the point, above, below and at the corners."""
    width, height, gap = text_width(cut(point.name, LONGEST), SIZE), SIZE + 1, RADIUS + 2
    for distance in DISTANCES:
        beside, upright = gap + width / 2 + distance, gap + height / 2 + distance
        corner = (width / 2 + gap - 2, upright - 3)
        steps = [(beside, 0.0), (-beside, 0.0), (0.0, -upright), (0.0, upright)]
        steps += [(x * corner[0], y * corner[1]) for x in (1, -1) for y in (-1, 1)]
        for x, y in steps:
            middle, centre = point.x + x, point.y + y
            yield distance, Box(middle - width / 2, centre - height / 2, middle + width / 2, centre + height / 2)


def _cost(box: Box, taken: Sequence[tuple[float, Box]]) -> float:
    """The weighted area that a name would cover, plus its area outside the canvas."""
    plot = Box(LEFT, TOP - 6, WIDTH - 2, HEIGHT - BOTTOM)
    outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(plot)
    return 20 * outside + sum(weight * box.overlap(other) for weight, other in taken)


def _leader(point: Point, box: Box) -> str:
    """A thin line from a point to a name that is not close to it."""
    x, y = _nearest(point, box)
    if (x - point.x) ** 2 + (y - point.y) ** 2 < (RADIUS + 6) ** 2:
        return ""
    return f'<path d="M{point.x:.1f} {point.y:.1f}L{x:.1f} {y:.1f}" stroke="{point.colour}" stroke-width=".8"/>'


def _nearest(point: Point, box: Box) -> tuple[float, float]:
    """The point of a box that is nearest to another point."""
    return min(max(point.x, box.left), box.right), min(max(point.y, box.top), box.bottom)
