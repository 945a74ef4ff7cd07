"""Unlabelled images: some of whatever `onward predict` reads, drawn evenly, and decoded when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward.prediction.batch import Batch, decode_batch
from onward.prediction.summary import Seconds
from onward.signature import Signature
from onward.sources import Block, open_sources
from onward.tasks.task import NO_TARGET

__all__ = ["UnlabelledImages"]


@dataclass(frozen=True)
class UnlabelledImages:
    """Images that are not decoded yet, in an order drawn by chance.

    Args:
        blocks: One image each.
        signature: Size, channels and resize rule of the decoded images.
    """

    blocks: tuple[Block, ...]
    signature: Signature

    @classmethod
    def draw(cls, paths: Sequence[str], signature: Signature, count: int, seed: int) -> UnlabelledImages:
        """Draw at most `count` images, each as likely as any other. All others are passed by, not decoded or kept.

        Raises:
            DataError: A path is missing, empty, or damaged at its beginning.

        Source: J. Vitter, "Random sampling with a reservoir", 1985, algorithm R.
        """
        chance, kept, seen = np.random.default_rng(seed), list[Block](), 0
        for block in open_sources(paths, signature).blocks():
            for at in range(len(block)):
                seen += 1
                place = int(chance.integers(seen))
                if len(kept) < count:
                    kept.append(block[at : at + 1])
                elif place < count:
                    kept[place] = block[at : at + 1]
        return cls(tuple(kept[index] for index in chance.permutation(len(kept))), signature)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, where: slice) -> UnlabelledImages:
        return UnlabelledImages(self.blocks[where], self.signature)

    def read(self, where: slice) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Decode some; unreadable ones are left out.

        Returns:
            uint8 `(count, height, width, channels)`, and `NO_TARGET` for each.
        """
        if not self.blocks[where]:
            return np.empty((0, *self.signature.image_shape), np.uint8), np.empty(0, np.int64)
        images = decode_batch(Batch(self.blocks[where]), self.signature, Seconds()).images
        return images, np.full(len(images), NO_TARGET, np.int64)
