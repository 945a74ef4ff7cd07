"""Evaluation: predictions beside the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.parity import Run
from runtime.signature import LOGITS, PROBABILITIES
from training.checkpoint import Checkpoint
from training.data import Split
from training.pixels import Normalize

__all__ = ["Evaluation", "evaluate", "runner"]

BATCH_SIZE = 256
Z_95 = 1.959964


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is on labelled images.

    Args:
        probabilities: float32 `(count, classes)`.
        targets: int64 `(count,)`.
    """

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def predicted(self) -> NDArray[np.integer]:
        """The most probable class of each image."""
        indices: NDArray[np.integer] = np.argmax(self.probabilities, 1)
        return indices

    @property
    def accuracy(self) -> float:
        """Share of images whose most probable class is the true one."""
        return float((self.predicted == self.targets).mean())

    @property
    def interval_95(self) -> tuple[float, float]:
        """Wilson's interval for the accuracy.

        Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
        """
        count, share = len(self.targets), self.accuracy
        centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
        spread = math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) * Z_95 / (1 + Z_95**2 / count)
        return centre - spread, centre + spread

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts: true classes down, predicted classes across."""
        size = self.probabilities.shape[1]
        return np.bincount(self.targets * size + self.predicted, minlength=size * size).reshape(size, size)

    def top_k_accuracy(self, k: int) -> float:
        """Share of images whose true class is among the k most probable."""
        ranked = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((ranked == self.targets[:, None]).any(1).mean())

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        confusion = self.confusion
        with np.errstate(invalid="ignore"):
            recall, precision = (np.diag(confusion) / confusion.sum(axis) for axis in (1, 0))
        return {
            "num_images": len(self.targets),
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval_95),
            "top_3_accuracy": self.top_k_accuracy(min(3, self.probabilities.shape[1])),
            "recall": recall.tolist(),
            "precision": precision.tolist(),
            "confusion": confusion.tolist(),
        }


def evaluate(run: Run, split: Split, *, on_progress: Callable[[int], None] = lambda count: None) -> Evaluation:
    """Classify every image of a split.

    Args:
        run: uint8 `(batch, height, width, channels)` -> output name -> float32 `(batch, classes)`: a backend's
            `run`, or that of `runner`.
        split: Labelled images.
        on_progress: Called with the number of images in each batch.
    """
    parts = []
    for at in range(0, len(split), BATCH_SIZE):
        parts.append(run(split.images[at : at + BATCH_SIZE])[PROBABILITIES])
        on_progress(len(parts[-1]))
    return Evaluation(np.concatenate(parts), split.targets)


def runner(checkpoint: Checkpoint) -> Run:
    """A checkpoint's network in PyTorch, on raw pixels."""
    network, normalize = checkpoint.network(), Normalize(checkpoint.signature)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            logits = network(normalize(torch.tensor(images)))
            return {LOGITS: logits.numpy(), PROBABILITIES: torch.softmax(logits, 1).numpy()}

    return run
