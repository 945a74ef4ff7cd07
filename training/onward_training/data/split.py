"""Split: labelled images of one part of a data set, in memory (Split) or on disk (FileSplit)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.errors import ImageError
from onward.images.decode import read_image
from onward.signature import Signature

__all__ = ["AnySplit", "FileSplit", "Split", "divide"]


@dataclass(frozen=True)
class Split:
    """Labelled images in memory.

    Args:
        images: uint8 `(count, height, width, channels)`.
        targets: int64 `(count,)`, class indices.
        files: The file of each image; empty if they come from no files.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]
    files: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        _, height, width, channels = self.images.shape
        return (height, width, channels)

    def take(self, indices: NDArray[np.integer]) -> Split:
        """The images at these indices, in this order."""
        files = [self.files[index] for index in indices.tolist()] if self.files else ()
        return Split(self.images[indices], self.targets[indices], files)

    def read(self, where: slice | NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8 `(count, height, width, channels)` and targets int64 `(count,)` at these indices."""
        return self.images[where], self.targets[where]

    def file_of(self, index: int) -> str:
        """The file of an image; empty if it comes from none."""
        return self.files[index] if self.files else ""


@dataclass(frozen=True)
class FileSplit:
    """Labelled images on disk, decoded when they are read.

    Args:
        paths: One file per image.
        targets: int64 `(count,)`, class indices.
        signature: Size, channels and resize rule of the decoded images.
        failures: Path -> why it cannot be read. Reading adds to it.
    """

    paths: Sequence[Path]
    targets: NDArray[np.int64]
    signature: Signature
    failures: dict[Path, str] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        return self.signature.image_shape

    def take(self, indices: NDArray[np.integer]) -> FileSplit:
        """The images at these indices, in this order, with the known failures among them."""
        paths = [self.paths[index] for index in indices.tolist()]
        failures = {path: self.failures[path] for path in paths if path in self.failures} if self.failures else {}
        return FileSplit(paths, self.targets[indices], self.signature, failures)

    def read(self, where: slice | NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode images in threads (Pillow releases the GIL); unreadable ones are left out.

        Args:
            where: Indices, in the order of the result.

        Returns:
            uint8 `(count, height, width, channels)` and int64 targets `(count,)` of the readable images.
        """
        indices = np.arange(len(self))[where]
        images = np.empty((len(indices), *self.image_shape), np.uint8)

        def decode(place: int) -> bool:
            path = self.paths[indices[place]]
            try:
                images[place] = read_image(path, self.signature)
            except ImageError as error:
                self.failures.setdefault(path, str(error))
                return False
            return True

        Image.init()  # now: if threads fill its lists of formats, others read them half filled
        with ThreadPoolExecutor() as pool:
            kept = np.fromiter(pool.map(decode, range(len(indices))), bool, len(indices))
        return images if kept.all() else images[kept], self.targets[indices[kept]]

    def load(self) -> Split:
        """All readable images, in memory."""
        images, targets = self.read(slice(None))
        return Split(images, targets, [str(path) for path in self.paths if path not in self.failures])

    def file_of(self, index: int) -> str:
        """The file of an image."""
        return str(self.paths[index])


#: Both have `targets`, `image_shape`, `take`, `read`, `file_of` and a length; only a Split has `images`.
AnySplit: TypeAlias = Split | FileSplit
SomeSplit = TypeVar("SomeSplit", Split, FileSplit)


def divide(split: SomeSplit, share: float, seed: int = 0) -> tuple[SomeSplit, SomeSplit]:
    """Split off a random `share`, the same of every class.

    Returns:
        The rest, and the share.
    """
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(split), bool)
    for target in np.unique(split.targets):
        members = generator.permutation(np.flatnonzero(split.targets == target))
        taken[members[: max(1, round(share * len(members)))]] = len(members) > 1
    return split.take(np.flatnonzero(~taken)), split.take(np.flatnonzero(taken))
