"""Normalization: raw uint8 images -> the normalised tensors that a network takes.

Training and every exported file use this one module, so they cannot differ.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from onward.signature import Signature

__all__ = ["Normalize"]


class Normalize(nn.Module):
    """uint8 `(batch, height, width, channels)` -> float `(batch, network's channels, height, width)`.

    `(image / 255 - mean) / std`, as one scale and one shift per channel, applied after the permute. The constants are
    0-d for one channel and `(channels, 1, 1)` otherwise: broadcasting along the last axis of NHWC was measured 5 to
    16 times slower in onnxruntime. The channel of a grey image is repeated first if the network takes three.

    Args:
        signature: Gives mean and std, of pixels scaled to 0..1, and `repeat`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, signature: Signature) -> None:
        super().__init__()
        mean = torch.tensor(signature.mean, dtype=torch.float64)
        std = torch.tensor(signature.std, dtype=torch.float64)
        shape = () if signature.network_channels == 1 else (-1, 1, 1)
        self.repeat = signature.repeat
        self.register_buffer("scale", (1 / (255 * std)).float().reshape(shape))
        self.register_buffer("shift", (-mean / std).float().reshape(shape))

    def forward(self, image_NHWC: Tensor) -> Tensor:
        """Permute, cast, scale and shift; the result is contiguous, since some networks call `view` on it."""
        image = image_NHWC.permute(0, 3, 1, 2).to(self.scale.dtype, memory_format=torch.contiguous_format)
        if self.repeat > 1:
            image = image.repeat(1, self.repeat, 1, 1)
        return image * self.scale + self.shift
