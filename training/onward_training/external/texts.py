"""Texts that messages about weights files share."""

from __future__ import annotations

from collections.abc import Sequence

from onward.printable import printable

__all__ = ["SAVE_ALONE", "listed"]

SAVE_ALONE = "In the program that made it, torch.save(network.state_dict(), path) saves the weights only."


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    names = [printable(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
