"""Formatting: numbers with as many digits as matter to a reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onward.statistics import Interval

__all__ = ["difference", "interval", "mebibytes", "milliseconds", "ratio", "seconds", "thousands"]

#: Stands for a missing value.
NONE = "–"


def milliseconds(value: float | None) -> str:
    """`0.123`, `1.23`, `12.3`, `123`."""
    if value is None:
        return NONE
    decimals = 3 if value < 0.9995 else 2 if value < 9.995 else 1 if value < 99.95 else 0  # 9.996 is 10.0
    return f"{value:,.{decimals}f}"


def seconds(value: float) -> str:
    """`1.23`, `12.3`."""
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def thousands(value: float | None) -> str:
    """`1.23`, `12.3`, `12,345`."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value: float | None) -> str:
    """`0.83`, `12.3`, `1,234`."""
    if value is None:
        return NONE
    return f"{value:.2f}" if value < 10 else thousands(value)


def interval(found: Interval | None) -> str:
    """`1.50–2.50`."""
    return NONE if found is None else f"{ratio(found.low)}–{ratio(found.high)}"


def difference(value: float | None) -> str:
    """`2.4e-7`."""
    return NONE if value is None else f"{value:.1e}".replace("e-0", "e-") if value else "0"


def mebibytes(size_bytes: int | None) -> str:
    """`0.12`, `1,234`, without the unit."""
    return NONE if size_bytes is None else thousands(size_bytes / 2**20)
