"""Epoch metrics: loss and accuracy of an epoch so far, summed exactly, so that an interruption changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["EpochMetrics", "Step"]

#: Steps between two looks at the losses: looking costs time, and on a GPU it means waiting for it.
LOOK_EVERY = 50


@dataclass(frozen=True)
class Step:
    """What is told of a step.

    Args:
        count: Images in it.
        tally: Of the epoch up to here, or to a few steps before.
    """

    count: int
    tally: EpochMetrics

    def describe(self) -> str:
        """Loss and accuracy of the epoch so far."""
        return self.tally.describe()


@dataclass
class EpochMetrics:
    """What an epoch has come to so far. Losses are kept one by one: their exact sum does not depend on any grouping.

    Args:
        epoch: From 1.
        losses: Of each step, times the images in it.
        right: Images that were classified rightly.
        count: Images.
        unseen: Loss, whether each image was right, of steps that are not counted yet; on the device.
    """

    epoch: int
    losses: list[float] = field(default_factory=list)
    right: int = 0
    count: int = 0
    unseen: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def step(self) -> int:
        """Steps done."""
        return len(self.losses) + len(self.unseen)

    @property
    def loss(self) -> float:
        """The mean over all images."""
        return math.fsum(self.losses) / max(self.count, 1)

    @property
    def accuracy(self) -> float:
        """Share of images that were classified rightly."""
        return self.right / max(self.count, 1)

    def add(self, loss: Tensor, is_right: Tensor) -> None:
        """Note a step: its mean loss, 0-d, and bool `(batch,)`."""
        self.unseen.append((loss, is_right))
        if len(self.unseen) == LOOK_EVERY:
            self.look()

    def skip(self) -> None:
        """Note a step that nothing was learned in."""
        self.look()
        self.losses.append(0.0)

    def look(self) -> None:
        """Count what was noted.

        Raises:
            FloatingPointError: A loss is no number; the step is named.
        """
        if not self.unseen:
            return
        losses = torch.stack([loss for loss, _ in self.unseen]).tolist()
        sizes = [len(is_right) for _, is_right in self.unseen]
        self.right += int(torch.cat([is_right for _, is_right in self.unseen]).sum())
        self.unseen.clear()
        for loss, size in zip(losses, sizes, strict=True):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss} at step {self.step + 1} of epoch {self.epoch}")
            self.losses.append(loss * size)
            self.count += size

    def describe(self) -> str:
        """One line for people."""
        return f"epoch {self.epoch}, loss {self.loss:.4f}, accuracy {self.accuracy:.2%}"

    def to_json(self) -> dict[str, Any]:
        """All that was counted."""
        return {"losses": list(self.losses), "right": self.right, "count": self.count}
