"""Done batches: which inputs an unfinished run has completed, and where their rows are.

It grows beside the rows, one line of JSON for each batch. A resumed run whose inputs have changed since reads it: to
say which ones, and to take the rows of all others over (`--resume-changed`).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, Any

from onward.document import parse
from onward.errors import OutputError
from onward.prediction.batch import Batch, Batcher
from onward.prediction.summary import Counts
from onward.sources import Block, Images, Item, Pixels

__all__ = ["Differences", "DoneBatch", "ReusingBatcher", "compare_inputs", "done_line", "entries_of", "read_done"]

MAX_NAMED = 10

#: Name and stamp of an input.
Entry = tuple[str, str]


@dataclass(frozen=True)
class DoneBatch:
    """A batch whose rows are written.

    Args:
        entries: Its inputs.
        rows: Where its rows begin and end in the staged rows.
        errors: Where the lines about its other inputs begin and end in the staged errors.
        counts: Of its inputs.
    """

    entries: tuple[Entry, ...]
    rows: tuple[int, int]
    errors: tuple[int, int]
    counts: Counts


def done_line(batch: Batch, rows: tuple[int, int], errors: tuple[int, int], counts: Counts) -> bytes:
    """The line of a batch. The images of an array are one entry: its name, stamp, first index and count."""
    inputs: list[list[Any]] = []
    for block in batch.blocks:
        if isinstance(block, Images):
            inputs += [[item.name, item.stamp] for item in block.items]
        else:
            inputs.append([block.name, block.stamp, block.start, len(block)])
    document = {"inputs": inputs, "rows": rows, "errors": errors, "counts": vars(counts)}
    return json.dumps(document).encode() + b"\n"


def read_done(stream: IO[bytes], length: int) -> Iterator[DoneBatch]:
    """The batches in the first `length` bytes of a file."""
    stream.seek(0)
    left = length
    while left > 0 and (line := stream.readline(left)):
        left -= len(line)
        document = parse(line, "the list of completed inputs", OutputError)
        place = tuple[int, int]
        yield DoneBatch(
            tuple(entry for item in document["inputs"] for entry in _entries(item.read(tuple[Any, ...]))),
            document["rows"].read(place),
            document["errors"].read(place),
            document["counts"].read(Counts),
        )


def _entries(item: Sequence[Any]) -> Iterator[Entry]:
    if len(item) == 2:
        yield item[0], item[1]
        return
    name, stamp, start, count = item
    yield from ((f"{name}[{index}]", stamp) for index in range(start, start + count))


def entries_of(block: Block) -> Iterator[Entry]:
    """Name and stamp of each input of a block."""
    if isinstance(block, Pixels):
        yield from ((name, block.stamp) for name in block.names)
    else:
        yield from ((item.name, item.stamp) for item in block.items)


@dataclass(frozen=True)
class Differences:
    """What happened to the inputs of a run since."""

    changed: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Ten of the names: `changed a.png, b.png; removed c.png`; empty if nothing is known."""
        left, parts = MAX_NAMED, []
        for what, names in vars(self).items():
            if names and left:
                shown, left = names[:left], max(0, left - len(names))
                more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
                parts.append(f"{what} {', '.join(shown)}{more}")
        return "; ".join(parts)


def compare_inputs(before: Iterable[DoneBatch], now: Iterator[Block]) -> Differences:
    """How the completed inputs of a run differ from the inputs that are there now."""
    known = dict(entry for batch in before for entry in batch.entries)
    found = Differences()
    there, new = set(), list[str]()
    for name, stamp in (entry for block in now for entry in entries_of(block)):
        if name not in known:
            new.append(name)
            continue
        found.added.extend(new)  # what comes behind the last completed input was not added: it was still to be done
        new.clear()
        there.add(name)
        if known[name] != stamp:
            found.changed.append(name)
    found.removed.extend(name for name in known if name not in there)
    return found


class ReusingBatcher(Batcher):
    """Batches of inputs, of which those that an earlier run has completed come as they were then.

    Args:
        blocks: All inputs, in order.
        done: The batches of the earlier run.
    """

    def __init__(self, blocks: Iterator[Block], done: Iterable[DoneBatch]) -> None:
        super().__init__(blocks)
        self.by_first = {batch.entries[0]: batch for batch in done if batch.entries}
        self.items = (item for block in blocks for item in _items_of(block))
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


def _items_of(block: Block) -> Iterator[tuple[Item, bytes]]:
    """Each input of a block with its part of the block's stamps."""
    for index in range(len(block)):
        part = block[index : index + 1]
        if isinstance(part, Images):
            yield part.items[0], part.stamps
        else:
            label = None if part.labels is None else part.labels[0]
            item = Item.of_pixels(part.names[0], part.images[0], label=label)
            yield Item(item.name, item.read, part.stamp, label, item.size_bytes), part.stamps
