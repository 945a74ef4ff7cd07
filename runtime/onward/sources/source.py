"""Source: images in order, in blocks, as often as needed.

A block holds consecutive images that are not decoded yet: encoded image files (`Images`), or raw pixels of an array
(`Pixels`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from onward.errors import ImageError
from onward.sources.left_alone import add_up

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_IMAGES",
    "Block",
    "ClassName",
    "Images",
    "Item",
    "Pixels",
    "Source",
    "chain",
    "in_blocks",
    "unreadable",
]

BLOCK_IMAGES = 64
#: Limit of the encoded images that a block holds in memory. A single image may be larger.
BLOCK_BYTES = 16 << 20


class ClassName(str):
    """A label that names a class, as that of a folder does; another label may be the class's index."""

    __slots__ = ()


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Args:
        blocks: Starts at the first image and yields all of them, in order, in blocks of any length.
        count: The number of images, or None if it is only known at the end. The call may take a while.
        left_alone: Suffix -> how many files of folders and archives were not read, since `blocks` was last called.
        is_repeatable: Whether `blocks` can be called again; not if the paths come from a stream.
    """

    blocks: Callable[[], Iterator[Block]]
    count: Callable[[], int | None] = lambda: None
    left_alone: Callable[[], Mapping[str, int]] = dict
    is_repeatable: bool = True


def chain(sources: Sequence[Source]) -> Source:
    """Several sources as one, one after the other."""
    if len(sources) == 1:
        return sources[0]

    def count() -> int | None:
        counts = [source.count() for source in sources]
        return None if None in counts else sum(filter(None, counts))

    return Source(
        lambda: (block for source in sources for block in source.blocks()),
        count,
        lambda: add_up(source.left_alone() for source in sources),
        all(source.is_repeatable for source in sources),
    )


@dataclass(frozen=True, slots=True)
class Item:
    """One encoded image.

    Args:
        name: The name of its row.
        read: Returns the bytes of an image file, or its pixels, uint8 `(height, width, channels)`; raises ImageError if
            it cannot be read. It can be pickled, so that another process can call it.
        stamp: Tells it from another image of the same name, e.g. by size and time of change.
        label: The label that comes with it: a `ClassName`, or a class by name or by index.
        size_bytes: How much memory it holds: 0 for a file, which is read on demand.
    """

    name: str
    read: Callable[[], bytes | NDArray[np.uint8]]
    stamp: str = ""
    label: str | None = None
    size_bytes: int = 0

    @staticmethod
    def of_bytes(name: str, data: bytes, *, stamp: str = "", label: str | None = None) -> Item:
        """An image file whose bytes are in memory."""
        return Item(name, partial(bytes, data), stamp, label, len(data))

    @staticmethod
    def of_pixels(name: str, image: NDArray[np.uint8], *, stamp: str = "", label: str | None = None) -> Item:
        """An image whose pixels are in memory, in the size that the model takes: uint8 `(height, width, channels)`."""
        return Item(name, partial(_same, image), stamp, label, image.nbytes)


def unreadable(name: str, reason: str, stamp: str = "", label: str | None = None) -> Item:
    """An item that cannot be read: `read` raises ImageError with this reason."""
    return Item(name, partial(_refuse, reason), stamp, label)


def _same(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image


def _refuse(reason: str) -> NoReturn:
    raise ImageError(reason)


@dataclass(frozen=True, slots=True)
class Images:
    """A block of encoded images."""

    items: Sequence[Item]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, where: slice) -> Images:
        return Images(self.items[where])

    @property
    def stamps(self) -> bytes:
        """All names and stamps in one text. Equal images give an equal text, however they are cut into blocks."""
        text = "".join(f"{item.name}\0{item.stamp}\n" for item in self.items)
        return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Pixels:
    """A block of images of an array, in the shape of the signature.

    Args:
        name: The array's name; its images are `name[0]`, `name[1]` …
        images: uint8 `(count, height, width, channels)`.
        start: Index of the first image in the array.
        stamp: Tells the array from another one of the same name.
        labels: One per image, if the array comes with labels.
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
    def items(self) -> list[Item]:
        """Each image as an item of its own."""
        labels: Sequence[str | None] = self.labels or [None] * len(self)
        return [
            Item.of_pixels(name, image, stamp=self.stamp, label=label)
            for name, image, label in zip(self.names, self.images, labels, strict=True)
        ]

    @property
    def stamps(self) -> bytes:
        """Name and stamp of the array for its first image, nothing for the rest, however it is cut into blocks."""
        if self.start or not len(self.images):
            return b""
        return f"{self.name}\0{self.stamp}\n".encode("utf-8", "surrogateescape")


Block = Images | Pixels


def in_blocks(items: Iterable[Item | Block]) -> Iterator[Block]:
    """Gather single items into blocks of up to `BLOCK_IMAGES` and `BLOCK_BYTES`. Blocks among them are unchanged."""
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
