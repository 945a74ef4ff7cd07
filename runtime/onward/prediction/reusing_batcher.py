"""Reusing batcher: batches of inputs, of which those that an earlier run has completed come as they were then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from onward.prediction.batch import Batch, Batcher
from onward.prediction.done_batches import DoneBatch
from onward.sources import Block, Images, Item

__all__ = ["ReusingBatcher"]


class ReusingBatcher(Batcher):
    """Batches of inputs, of which those that an earlier run has completed come as they were then.

    Args:
        blocks: All inputs, in order.
        done: The batches of the earlier run.
    """

    def __init__(self, blocks: Iterator[Block], done: Iterable[DoneBatch]) -> None:
        super().__init__(blocks)
        self.by_first = {batch.entries[0]: batch for batch in done if batch.entries}
        self.items = (pair for block in blocks for pair in _with_stamps(block))
        self.ahead: deque[tuple[Item, bytes]] = deque()
        self.reused: dict[int, DoneBatch] = {}

    def take(self, count: int, max_bytes: int | None = None) -> Batch | None:
        """As `Batcher.take`; or a whole batch of the earlier run, whatever its size, which `done_batch` then has."""
        self._look_ahead(1)
        if not self.ahead:
            return None
        if (done := self._candidate(0)) and self._is_next(done):
            batch = self._pop(len(done.entries))
            self.reused[id(batch)] = done
            return batch
        length, size_bytes = 1, self.ahead[0][0].size_bytes
        while length < count and self._look_ahead(length + 1) and not self._candidate(length):
            size_bytes += self.ahead[length][0].size_bytes
            if max_bytes is not None and size_bytes > max_bytes:
                break
            length += 1
        return self._pop(length)

    def done_batch(self, batch: Batch) -> DoneBatch | None:
        """The batch of the earlier run that this one repeats; asked once."""
        return self.reused.pop(id(batch), None)

    def _candidate(self, place: int) -> DoneBatch | None:
        item, _ = self.ahead[place]
        return self.by_first.get((item.name, item.stamp))

    def _is_next(self, done: DoneBatch) -> bool:
        if not self._look_ahead(len(done.entries)):
            return False
        upcoming = islice(self.ahead, len(done.entries))
        return all((item.name, item.stamp) == entry for (item, _), entry in zip(upcoming, done.entries, strict=True))

    def _look_ahead(self, count: int) -> bool:
        """Whether there are so many inputs more."""
        self.ahead.extend(islice(self.items, max(0, count - len(self.ahead))))
        return len(self.ahead) >= count

    def _pop(self, count: int) -> Batch:
        taken = [self.ahead.popleft() for _ in range(count)]
        self.digest.update(b"".join(stamps for _, stamps in taken))
        return Batch((Images([item for item, _ in taken]),), self.digest.hexdigest())


def _with_stamps(block: Block) -> Iterator[tuple[Item, bytes]]:
    """Each input of a block with its part of the block's stamps."""
    yield from ((item, block[at : at + 1].stamps) for at, item in enumerate(block.items))
