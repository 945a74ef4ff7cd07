"""Texts that messages about weights files share."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SAVE_ALONE", "listed", "printable"]

SAVE_ALONE = "In the program that made it, torch.save(network.state_dict(), path) saves the weights only."


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    names = [printable(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def printable(name: str) -> str:
    """A name that is safe to print on a terminal."""
    return name if name.isprintable() else ascii(name)  # names in a file may contain control characters
