"""Done batches: which inputs an unfinished run has completed, and where their rows are.

It grows beside the rows, one line of JSON for each batch. A resumed run whose inputs have changed since reads it: to
say which ones, and to take the rows of all others over (`--resume-changed`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from onward.document import parse
from onward.errors import OutputError
from onward.prediction.batch import Batch
from onward.prediction.summary import Counts
from onward.sources import Block, Images

__all__ = ["Differences", "DoneBatch", "compare_inputs", "done_line", "read_done"]

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
    for name, stamp in ((item.name, item.stamp) for block in now for item in block.items):
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
