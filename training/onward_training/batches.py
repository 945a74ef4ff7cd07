"""Batches: the images of each training step, in an order that the seed and the epoch number alone decide.

So a run can resume in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from torch import Tensor

from onward_training.augmentation import Augment
from onward_training.data import AnySplit, Split
from onward_training.options import TrainOptions
from onward_training.streaming_loader import stream_batches

__all__ = ["Batches", "seed_of"]


def seed_of(seed: int, epoch: int) -> int:
    """A seed for each epoch of each run."""
    return (seed * 1_000_003 + epoch * 7_919) % 2**63


class Batches:
    """The training images of a run: on its device if they are in memory, else decoded from disk ahead of use.

    Args:
        split: The images.
        options: Batch size, seed, device, number of workers.
        augment: Applied to each batch, or None.
    """

    def __init__(self, split: AnySplit, options: TrainOptions, augment: Augment | None) -> None:
        self.split, self.options, self.augment = split, options, augment
        self.device = torch.device(options.device)
        if isinstance(split, Split):
            self.images = torch.from_numpy(np.ascontiguousarray(split.images)).to(self.device)
            self.targets = torch.from_numpy(split.targets).to(self.device)

    def __len__(self) -> int:
        """Steps per epoch."""
        return len(self.order(1))

    def order(self, epoch: int) -> list[Tensor]:
        """The indices of each batch of an epoch, each image once.

        A last batch of one image is merged into the one before it: batch normalisation cannot train on one image.
        """
        generator = torch.Generator().manual_seed(seed_of(self.options.seed, epoch))
        indices = torch.randperm(len(self.split), generator=generator)
        batches = list(torch.split(indices, self.options.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def read(self, epoch: int, first_step: int = 0) -> Generator[tuple[Tensor, Tensor]]:
        """uint8 `(batch, height, width, channels)` and int64 `(batch,)` on the device, from step `first_step` on."""
        chosen = self.order(epoch)[first_step:]
        if isinstance(self.split, Split):
            for indices in chosen:
                at = indices.to(self.device)
                images = self.images[at]
                yield self.augment(images) if self.augment else images, self.targets[at]
            return
        streamed = stream_batches(
            self.split,
            chosen,
            augment=self.augment,
            seed=self.options.seed,
            epoch=epoch,
            num_workers=self.options.num_workers,
        )
        for images, targets in streamed:
            yield images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True)
