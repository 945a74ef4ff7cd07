"""Canvas: the SVG element that a chart is drawn on, and the texts on it."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

__all__ = [
    "BOTTOM",
    "HEIGHT",
    "LEFT",
    "NARROW",
    "RIGHT",
    "TOP",
    "WIDTH",
    "blank",
    "cut",
    "short",
    "svg",
    "text",
    "text_width",
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
