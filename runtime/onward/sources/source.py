"""Source: inputs that can be gone through in order, as often as one likes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from onward.sources.block import Block

__all__ = ["Source", "chain"]


@dataclass(frozen=True)
class Source:
    """Where inputs come from.

    Args:
        blocks: Starts at the first input and gives them all, in order; blocks are of any length.
        count: How many there are, or None where that is known only at the end. It may take a while.
    """

    blocks: Callable[[], Iterator[Block]]
    count: Callable[[], int | None] = lambda: None


def chain(sources: Sequence[Source]) -> Source:
    """Several, one after the other."""
    if len(sources) == 1:
        return sources[0]

    def count() -> int | None:
        counts = [source.count() for source in sources]
        return None if None in counts else sum(filter(None, counts))

    return Source(lambda: (block for source in sources for block in source.blocks()), count)
