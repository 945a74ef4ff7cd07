"""Deployable: the eval-mode module that is exported."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from runtime.signature import Signature
from training.pixels import Normalize

__all__ = ["Deployable"]


class Deployable(nn.Module):
    """Raw pixels -> permute -> cast -> scale and shift -> model -> logits and probabilities.

    The network given is copied: the caller's keeps its mode, device, dtype and hooks.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, gives logits `(batch, classes)`.
        signature: Mean, std and labels.
    """

    def __init__(self, network: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.normalize = Normalize(signature)
        self.model = copy.deepcopy(network).cpu()
        self.eval()
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 `(batch, height, width, channels)` -> logits, probabilities, both `(batch, classes)`."""
        logits = self.model(self.normalize(image))
        return logits, torch.softmax(logits, dim=1)
