"""Colours: of the series of a chart and of what surrounds them, for light and dark pages.

c4 to c11 are as far from each other and from the rest as possible in OKLab, for normal sight and for simulated
deuteranopia and protanopia, with a contrast of at least 3 to the background of charts (WCAG 2.2, 1.4.11).

Sources: B. Ottosson, "A perceptual color space for image processing", 2020; G. Machado and others, "A
physiologically-based model for simulation of color vision deficiency", 2009.
"""

from __future__ import annotations

__all__ = ["AROUND", "SERIES", "series_colour"]

#: (on a light page, on a dark page) for each series, in order.
SERIES = (
    ("#2460d8", "#6ea0ff"),
    ("#d9570a", "#ff9757"),
    ("#14805e", "#4cc79f"),
    ("#8a3fc4", "#c48df0"),
    ("#ff349d", "#ffa5d2"),
    ("#0b9ac2", "#57d5ff"),
    ("#764f05", "#a5842b"),
    ("#000a69", "#1660ef"),
    ("#7a0032", "#c62a61"),
    ("#897eff", "#7f699f"),
    ("#464772", "#ffffeb"),
    ("#3b0000", "#bfff1b"),
)
#: Name -> (on a light page, on a dark page) for everything that is not a series.
AROUND = {
    "ink": ("#1b1f24", "#e6e8eb"),
    "line": ("#dfe3e8", "#333a42"),
    "soft": ("#5d6671", "#9aa4b0"),
    "panel": ("#f6f7f9", "#1d2126"),
    "bad": ("#c22b2b", "#ff7b72"),
}


def series_colour(index: int) -> str:
    """The colour of the series at that index; the colours repeat after the last one."""
    return f"var(--c{index % len(SERIES)})"
