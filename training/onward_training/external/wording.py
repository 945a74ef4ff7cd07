"""Wording: names out of somebody's file, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed", "printable"]


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    names = [printable(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def printable(name: str) -> str:
    """The name as a terminal may show it."""
    return name if name.isprintable() else ascii(name)  # somebody's file may hold what a terminal obeys
