"""FileSplit: labelled images on disk, decoded when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onward.errors import ImageError
from onward.images.decode import read_image
from onward.signature import Signature

__all__ = ["FileSplit"]


@dataclass(frozen=True)
class FileSplit:
    """Labelled images on disk: decoded when read, never all in memory.

    Args:
        paths: One image each.
        targets: int64 `(count,)`, class indices.
        signature: Size, channels and resize rule; whatever is decoded becomes that.
        failures: Path -> why it cannot be read. Grows as such files are met, each once.
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
        """The samples at these places, in this order, with what is known to fail among them."""
        paths = [self.paths[index] for index in indices.tolist()]
        failures = {path: self.failures[path] for path in paths if path in self.failures} if self.failures else {}
        return FileSplit(paths, self.targets[indices], self.signature, failures)

    def read(self, where: slice | NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode images in threads (Pillow lets go of the interpreter's lock), without those that it cannot.

        Args:
            where: Which, and in which order.

        Returns:
            uint8 `(count, height, width, channels)`, and int64 targets `(count,)` of those that could be read.
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

        Image.init()  # in threads its lists of formats would be filled while others look at them
        with ThreadPoolExecutor() as pool:
            kept = np.fromiter(pool.map(decode, range(len(indices))), bool, len(indices))
        return images if kept.all() else images[kept], self.targets[indices[kept]]
