"""Batches: consecutive inputs of a source, as many at a time as the model is to run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from onward.sources.block import Block

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True)
class Batch:
    """Some consecutive inputs.

    Args:
        blocks: That they lie in.
        digest: Of the names and stamps of all inputs up to the last of these.
    """

    blocks: tuple[Block, ...]
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


class Batches:
    """Cuts blocks into batches of any size.

    Args:
        blocks: All inputs, in order.
    """

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self.rest: Block | None = None
        self.digest = hashlib.blake2b(digest_size=16)

    def take(self, count: int) -> Batch | None:
        """The next inputs, `count` of them unless fewer are left; None where none is."""
        taken: list[Block] = []
        while count and (block := self._next()):
            taken.append(block[:count])
            self.rest = block[count:]
            count -= len(taken[-1])
            self.digest.update(taken[-1].stamps)
        return Batch(tuple(taken), self.digest.hexdigest()) if taken else None

    def _next(self) -> Block | None:
        while not self.rest:
            self.rest = next(self.blocks, None)
            if self.rest is None:
                return None
        return self.rest
