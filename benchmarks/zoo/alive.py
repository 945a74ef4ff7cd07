"""Alive: random weights under which every part of a network does something, so that a wrong export would show."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.signature import Signature
from training.pixels import Normalize

__all__ = ["make_alive"]

#: Images that batch norm's statistics are taken from, in batches: enough for a variance, cheap beside the gate.
NUM_IMAGES, BATCH_SIZE = 32, 8
#: A layer scale of ConvNeXt is 1e-6 throughout: what is smaller than this leaves a branch without effect.
DEAD = 1e-3


def make_alive(network: nn.Module, signature: Signature, *, seed: int = 0) -> None:
    """Change a freshly built network in place, and leave it in eval mode.

    Built with random weights, torchvision's networks are not fit for the gate:

    - ViT's head and class token are zeros, ConvNeXt's layer scales 1e-6: nothing comes through. They are drawn.
    - Every bias is 0 and every scale of a norm 1: an export that lost or mixed them up would not be noticed. They
      are drawn around these values.
    - Running statistics of 0 and 1 let the activations die out over some fifty layers (MobileNetV3-small gives the
      same logits for every image). They are set to the mean over random images, normalised as the signature says,
      with batch norm alone in training mode, so that dropout and stochastic depth stay out of it.

    Args:
        network: Takes float32 `(batch, channels, height, width)`.
        signature: Size, mean and std of its images.
        seed: Of what is drawn; the images are not those of the gate.
    """
    generator = torch.Generator().manual_seed(seed)
    network.eval()
    with torch.no_grad():
        for parameter in network.parameters():
            _draw(parameter, generator)
        norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if norms:
            _set_statistics(network, norms, _images(signature, seed))


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    """Draw a parameter that is one number throughout: zeros, ones, or next to nothing."""
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


def _set_statistics(network: nn.Module, norms: list[nn.modules.batchnorm._BatchNorm], images: Iterator[Tensor]) -> None:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
        norm.train()
    for image in images:
        network(image)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _images(signature: Signature, seed: int) -> Iterator[Tensor]:
    """Random pixels, from fine noise to one colour, so that no image is far from what the statistics are of.

    Of fine noise alone, every image has the same mean to within a hundredth, and the statistics of the last layers
    are so narrow that an image of one colour overflows them: PyTorch's own error was then above 1e-4 of scale.
    """
    normalize = Normalize(signature)
    rng = np.random.default_rng(seed + 1)
    coarseness = [int(side) for side in np.geomspace(1, min(signature.height, signature.width), BATCH_SIZE)]
    shape = (signature.height, signature.width)
    for _ in range(NUM_IMAGES // BATCH_SIZE):
        fields = [torch.from_numpy(rng.random((1, signature.channels, side, side), np.float32)) for side in coarseness]
        images = torch.cat([F.interpolate(field, shape, mode="bilinear") for field in fields])
        yield normalize((255 * images).round().to(torch.uint8).permute(0, 2, 3, 1))
