"""Shard: one of several runs that share the inputs of one command, each on a machine of its own.

An input belongs to a shard by its name alone. So it does not move when others are added or removed while the shards
run or before one is repeated, and no shard needs to know the number of inputs. Shards are not contiguous: each has the
order of the inputs, and their rows are merged by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from onward.errors import UsageError
from onward.sources import Block, Images, Source

__all__ = ["Shard"]


@dataclass(frozen=True)
class Shard:
    """A share of the inputs.

    Args:
        index: Which shard, from 0.
        count: How many there are.

    Raises:
        UsageError: The index is not below the count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"--shard is {self}: expected INDEX/COUNT with an index from 0 to {max(self.count, 1) - 1}, such as "
                f"0/{max(self.count, 1)}."
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read INDEX/COUNT.

        Raises:
            UsageError: It is something else.
        """
        index, _, count = text.partition("/")
        if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in (index, count)):
            raise UsageError(f"--shard is {text!r}, expected INDEX/COUNT, counted from 0: 0/3, 1/3 and 2/3.")
        return cls(int(index), int(count))

    def has(self, name: str) -> bool:
        """Whether the input of this name belongs to the shard."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index

    def of(self, source: Source) -> Source:
        """The inputs of a source that belong to the shard, in their order."""
        return Source(lambda: self._blocks(source), left_alone=source.left_alone, is_repeatable=source.is_repeatable)

    def _blocks(self, source: Source) -> Iterator[Block]:
        for block in source.blocks():
            chosen = [item for item in block.items if self.has(item.name)]
            if chosen:
                yield Images(chosen)
