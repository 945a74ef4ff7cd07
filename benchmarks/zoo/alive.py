"""Alive: random weights with which every part of a network has an effect, so that a wrong export is visible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from onward.signature import Signature
from onward_training.normalization import Normalize

__all__ = ["images", "make_alive"]

#: Number of coarse noise images, of fine noise images, and of sets of four nearly constant images.
NUM_COARSE, NUM_FINE, NUM_CONSTANT = 14, 10, 2
#: Every layer scale of ConvNeXt is 1e-6; a branch with a scale below this has no effect.
DEAD = 1e-3


def make_alive(network: nn.Module, signature: Signature, *, seed: int = 0) -> None:
    """Change a freshly built network in place, and leave it in eval mode.

    torchvision's random weights do not suffice for the gate:

    - ViT's head and class token are zeros, ConvNeXt's layer scales 1e-6: these parts have no effect. They are drawn at
      random.
    - Every bias is 0 and every scale of a norm 1: an export that lost or exchanged them would not be noticed. They are
      drawn, too. Those of batch norm lie above 0: around 0, some fifty layers of ReLU or SiLU are chaotic, and
      PyTorch's own rounding grows to 1e-4 of the logits (ResNet-152) or to all of them (EfficientNet-B7).
    - Running statistics of 0 and 1 let the activations die out (MobileNetV3-small gives the same logits for every
      image). They are set to those of one batch, with batch norm alone in training mode, so that dropout and
      stochastic depth have no influence. (With means over several batches EfficientNetV2 gave logits of 800: the next
      layer receives other values in eval mode.)

    Args:
        network: Takes float32 `(batch, channels, height, width)`.
        signature: Size, mean and std of its images.
        seed: The seed of the drawn values; the images differ from those of the gate.
    """
    generator = torch.Generator().manual_seed(seed)
    network.eval()
    with torch.no_grad():
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        for norm in norms:
            if norm.affine:
                norm.bias.uniform_(0, 1, generator=generator)
        for parameter in network.parameters():
            _draw(parameter, generator)
        if norms:
            _set_statistics(network, norms, images(signature, seed=seed))


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    """Draw a parameter whose values are all equal: zeros, ones, or a tiny number."""
    if parameter.numel() < 2 or parameter.min() != parameter.max():
        return
    value = float(parameter.flatten()[0])
    if value == 0 and parameter.ndim == 1:
        parameter.uniform_(-0.1, 0.1, generator=generator)
    elif value == 0:
        parameter.normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
    elif value == 1:
        parameter.uniform_(0.5, 1.5, generator=generator)
    elif abs(value) < DEAD:
        parameter.uniform_(0.1, 0.5, generator=generator)


def _set_statistics(network: nn.Module, norms: Sequence[_BatchNorm], image: Tensor) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # the statistics of this batch
        norm.train()
    network(image)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def images(signature: Signature, *, seed: int) -> Tensor:
    """Normalised images of all kinds that the gate uses: fine and coarse noise, one colour, a checkerboard.

    The statistics must cover all of them: with fine noise alone, images of one colour overflowed.
    """
    rng = np.random.default_rng(seed + 1)
    size = (signature.height, signature.width)
    sides = [*np.geomspace(1, min(size), NUM_COARSE).astype(int).tolist(), *[min(size)] * NUM_FINE]
    noise = [torch.from_numpy(rng.random((1, signature.channels, side, side), np.float32)) for side in sides]
    checks = torch.from_numpy(np.indices(size).sum(0) % 2).float()
    constant = [level.expand(1, signature.channels, *size) for level in (*torch.tensor([0, 0.5, 1]), checks)]
    fields = [F.interpolate(field, size, mode="bilinear") for field in noise] + NUM_CONSTANT * constant
    pixels = (255 * torch.cat(fields)).round().to(torch.uint8)
    image: Tensor = Normalize(signature)(pixels.permute(0, 2, 3, 1))
    return image
