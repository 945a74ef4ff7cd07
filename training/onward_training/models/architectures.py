"""Architectures: a network of linear layers and a small CNN. Each takes normalised images and returns logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from onward.errors import UsageError

__all__ = ["CNN", "ClassifierNetwork"]


class ClassifierNetwork(nn.Module):
    """Linear layers with ReLU and dropout: 784-256-128-64-10 on Fashion-MNIST.

    Args:
        num_inputs: Pixels times channels.
        num_classes: Number of classes.
        hidden: Width of each hidden layer.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(
        self, num_inputs: int, num_classes: int, hidden: Sequence[int] = (256, 128, 64), dropout: float = 0.2
    ) -> None:
        super().__init__()
        widths = [num_inputs, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> logits `(batch, classes)`."""
        logits: Tensor = self.layers(image)
        return logits


class CNN(nn.Module):
    """Convolution blocks (3×3, batch norm, ReLU, 2×2 max pooling), then two linear layers.

    Args:
        image_shape: `(channels, height, width)`; each block halves height and width.
        num_classes: Number of classes.
        widths: Channels of each block.
        num_hidden: Width of the hidden linear layer.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        widths: Sequence[int] = (32, 64),
        num_hidden: int = 128,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        blocks: list[nn.Module] = []
        for width_in, width_out in pairwise([channels, *widths]):
            blocks += [
                nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(width_out),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        num_features = widths[-1] * (height >> len(widths)) * (width >> len(widths))
        if not num_features:
            raise UsageError(
                f"the cnn halves the image {len(widths)} times, so {height}x{width} pixels is too small an image: give "
                f"fewer widths in --model-args."
            )
        self.features = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(num_features, num_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(num_hidden, num_classes),
        )

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> logits `(batch, classes)`."""
        logits: Tensor = self.head(self.features(image))
        return logits
