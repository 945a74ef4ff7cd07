"""Epoch metrics: loss and accuracy of an epoch so far, summed exactly, so that an interruption changes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["EpochMetrics", "Step"]

#: Steps between two readings of the losses. A reading takes time, and on a GPU it waits for all steps so far.
READ_EVERY_STEPS = 50


@dataclass(frozen=True)
class Step:
    """What a caller is told after a training step.

    Args:
        num_images: Images in the step.
        metrics: Of the epoch, up to this step or a few steps before.
    """

    num_images: int
    metrics: EpochMetrics

    def describe(self) -> str:
        """Loss and accuracy of the epoch so far."""
        return self.metrics.describe()


@dataclass
class EpochMetrics:
    """Loss and accuracy of an epoch so far. Each step's loss is kept: the exact sum does not depend on grouping.

    Args:
        epoch: From 1.
        losses: The mean loss of each step, times its number of images.
        num_correct: Images that were classified correctly.
        num_images: Images so far.
        unread: Of the latest steps: mean loss, and whether each image was correct; still on the device.
    """

    epoch: int
    losses: list[float] = field(default_factory=list)
    num_correct: int = 0
    num_images: int = 0
    unread: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.losses) + len(self.unread)

    @property
    def loss(self) -> float:
        """The mean over all images."""
        return math.fsum(self.losses) / max(self.num_images, 1)

    @property
    def accuracy(self) -> float:
        """Share of images that were classified correctly."""
        return self.num_correct / max(self.num_images, 1)

    def add_step(self, loss: Tensor, is_correct: Tensor) -> None:
        """Add a step: its mean loss, 0-d, and bool `(batch,)`.

        Raises:
            FloatingPointError: A loss so far is NaN or infinite; the message names its step.
        """
        self.unread.append((loss, is_correct))
        if len(self.unread) == READ_EVERY_STEPS:
            self.read()

    def skip_step(self) -> None:
        """Add a step in which no weight was changed."""
        self.read()
        self.losses.append(0.0)

    def read(self) -> None:
        """Read the latest steps from the device.

        Raises:
            FloatingPointError: A loss is NaN or infinite; the message names its step.
        """
        if not self.unread:
            return
        losses = torch.stack([loss for loss, _ in self.unread]).tolist()
        sizes = [len(is_correct) for _, is_correct in self.unread]
        self.num_correct += int(torch.cat([is_correct for _, is_correct in self.unread]).sum())
        self.unread.clear()
        for loss, size in zip(losses, sizes, strict=True):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {self.num_steps + 1} of epoch {self.epoch}")
            self.losses.append(loss * size)
            self.num_images += size

    def describe(self) -> str:
        """One line for people."""
        return f"epoch {self.epoch}, loss {self.loss:.4f}, accuracy {self.accuracy:.2%}"

    def to_json(self) -> dict[str, Any]:
        """The entry `tally` in a checkpoint's `progress`."""
        return {"losses": list(self.losses), "right": self.num_correct, "count": self.num_images}

    @classmethod
    def from_json(cls, epoch: int, document: Mapping[str, Any]) -> EpochMetrics:
        """Read what `to_json` gave."""
        return cls(epoch, list(document["losses"]), document["right"], document["count"])
