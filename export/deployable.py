"""Deployable: the eval-mode module that is exported."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from runtime.parity import BATCH_SIZES, regroup
from runtime.signature import OUTPUTS, Signature
from training.models import with_logits
from training.pixels import Normalize

__all__ = ["ByOutput", "Deployable", "run"]

ByOutput = dict[str, NDArray[Any]]


class Deployable(nn.Module):
    """Raw pixels -> permute -> cast -> scale and shift -> model -> logits and probabilities.

    The network given is copied: the caller's keeps its mode, device, dtype and hooks.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, gives logits `(batch, classes)`, or ends in a
            softmax or a sigmoid, which is left out (`training/models/logits.py`).
        signature: Mean, std and labels.

    Raises:
        UsageError: Its outputs are probabilities by other means.
    """

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.normalize = Normalize(signature)
        self.model = with_logits(copy.deepcopy(network).cpu().eval(), signature)
        self.eval()
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 `(batch, height, width, channels)` -> logits, probabilities, both `(batch, classes)`."""
        logits = self.model(self.normalize(image))
        return logits, torch.softmax(logits, dim=1)


def run(module: nn.Module, images: NDArray[np.uint8], batch_size: int = max(BATCH_SIZES)) -> ByOutput:
    """Run a deployable, in its own precision, in batches: output name -> `(samples, classes)`."""

    def run_batch(batch: NDArray[np.uint8]) -> ByOutput:
        return {name: out.numpy() for name, out in zip(OUTPUTS, module(torch.tensor(batch)), strict=True)}

    return regroup(run_batch, images, batch_size)
