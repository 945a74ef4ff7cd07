"""Block: some consecutive inputs, not decoded yet: image files, or raw pixels of an array.

Source: inputs that can be gone through in order, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from onward.errors import ImageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_IMAGES",
    "Block",
    "Images",
    "Item",
    "Pixels",
    "Source",
    "Unreadable",
    "blocks_of",
    "chain",
]


BLOCK_IMAGES = 64
#: Of encoded images that are held in memory. One image alone may be larger.
BLOCK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """One encoded image.

    Args:
        name: What its row is called.
        read: Gives the bytes of an image file; raises ImageError where there are none. It may be sent to another
            process.
        stamp: What another image of this name would have otherwise, e.g. size and time of change.
        label: The class that somebody has given it, by name or by number.
        size_bytes: What it holds in memory already: 0 for a file, which is read when it is asked for.
    """

    name: str
    read: Callable[[], bytes]
    stamp: str = ""
    label: str | None = None
    size_bytes: int = 0


def Unreadable(name: str, reason: str, stamp: str = "", label: str | None = None) -> Item:
    """An input that is known to give no row, and why."""
    return Item(name, partial(_refuse, reason), stamp, label)


@dataclass(frozen=True, slots=True)
class Images:
    """Consecutive encoded images."""

    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, where: slice) -> Images:
        return Images(self.items[where])

    @property
    def stamps(self) -> bytes:
        """Names and stamps, one after the other: equal for equal inputs, however they are cut into blocks."""
        text = "".join(f"{item.name}\0{item.stamp}\n" for item in self.items)
        return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Pixels:
    """Consecutive images of an array, as the model's signature has them.

    Args:
        name: Of the array; its images are `name[0]`, `name[1]` …
        images: uint8 `(count, height, width, channels)`.
        start: The index of the first one in the array.
        stamp: What another array of this name would have otherwise.
        labels: One per image, where the array comes with some.
    """

    name: str
    images: NDArray[np.uint8]
    start: int = 0
    stamp: str = ""
    labels: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, where: slice) -> Pixels:
        first, _, _ = where.indices(len(self))
        labels = self.labels and self.labels[where]
        return Pixels(self.name, self.images[where], self.start + first, self.stamp, labels)

    @property
    def names(self) -> list[str]:
        """One per image."""
        name = self.name
        return [f"{name}[{index}]" for index in range(self.start, self.start + len(self.images))]

    @property
    def stamps(self) -> bytes:
        """Name and stamp of the array with its first image, nothing further on: however it is cut into blocks."""
        if self.start or not len(self.images):
            return b""
        return f"{self.name}\0{self.stamp}\n".encode("utf-8", "surrogateescape")


Block = Images | Pixels


def blocks_of(items: Iterable[Item | Block]) -> Iterator[Block]:
    """Single inputs, gathered up to `BLOCK_IMAGES` and `BLOCK_BYTES`; blocks among them pass as they are."""
    gathered: list[Item] = []
    size_bytes = 0
    for item in items:
        if gathered and (
            not isinstance(item, Item) or len(gathered) == BLOCK_IMAGES or size_bytes + item.size_bytes > BLOCK_BYTES
        ):
            yield Images(gathered)
            gathered, size_bytes = [], 0
        if isinstance(item, Item):
            gathered.append(item)
            size_bytes += item.size_bytes
        else:
            yield item
    if gathered:
        yield Images(gathered)


def _refuse(reason: str) -> NoReturn:
    raise ImageError(reason)


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
