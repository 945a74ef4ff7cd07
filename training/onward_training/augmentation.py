"""Augmentation: random changes of training images.

Flip, crop and erase change a whole batch at once, because they must be fast beside the steps of small networks. The
others are torchvision's and change one image at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from onward_training.options import check_augmentation

__all__ = ["Augment"]

PROBABILITY = 0.5
#: Share of the side that is added at both ends before a window is cropped: 4 of 32 pixels.
#: Source: He et al., "Deep Residual Learning for Image Recognition", section 4.2.
CROP_PADDING = 1 / 8
#: Share of the image's area, and height over width. Source: torchvision, `v2.RandomErasing`'s defaults.
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)
ROTATION_DEGREES = 15
#: Of brightness, contrast and saturation. Source: an earlier version of PyTorch's ImageNet example.
JITTER = 0.4


class Augment:
    """Change each image of a batch independently, with random numbers from torch's global CPU generator.

    Args:
        names: Some of `onward_training.options.AUGMENTATIONS`, applied in this order.

    Raises:
        UsageError: A name is unknown.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        for name in self.names:
            check_augmentation(name)
        if not set(self.names) <= set(BATCHED):
            _torchvision()  # imported before workers are forked, else each worker would import it in every epoch

    def __repr__(self) -> str:
        return f"Augment({', '.join(self.names)})"

    def __call__(self, image_NHWC: Tensor) -> Tensor:
        """uint8 `(batch, height, width, channels)`, on any device -> a new tensor of the same shape."""
        if not len(image_NHWC):
            return image_NHWC
        for name in self.names:
            image_NHWC = BATCHED[name](image_NHWC) if name in BATCHED else _one_by_one(name, image_NHWC)
        return image_NHWC


def _flip(image_NHWC: Tensor) -> Tensor:
    chosen = (torch.rand(len(image_NHWC)) < PROBABILITY).to(image_NHWC.device)
    return torch.where(chosen[:, None, None, None], image_NHWC.flip(2), image_NHWC)


def _crop(image_NHWC: Tensor) -> Tensor:
    """Crop a window of the image's size from the image padded by reflection.

    Whole rows are selected first, then columns within them: on a (64, 28, 28, 1) batch that takes half the time of
    indexing rows and columns at once.
    """
    count, height, width, channels = image_NHWC.shape
    rows, columns = _windows(count, height), _windows(count, width)
    flat = (torch.arange(count)[:, None] * height + rows).reshape(-1).to(image_NHWC.device)
    picked = image_NHWC.reshape(count * height, width * channels).index_select(0, flat).view(image_NHWC.shape)
    return picked.gather(2, columns.to(image_NHWC.device)[:, None, :, None].expand(count, height, width, channels))


def _windows(count: int, side: int) -> Tensor:
    """The source position of each pixel of each image's window along one side: int64 `(count, side)`."""
    padding = min(max(1, round(side * CROP_PADDING)), side - 1)
    places = torch.randint(0, 2 * padding + 1, (count, 1)) - padding + torch.arange(side)
    return side - 1 - (side - 1 - places.abs()).abs()


def _erase(image_NHWC: Tensor) -> Tensor:
    """Cover a rectangle of about half the images with one random level per channel.

    Source: Zhong et al., "Random Erasing Data Augmentation".
    """
    count, height, width, channels = image_NHWC.shape
    area = torch.empty(count).uniform_(*ERASED_AREA) * (height * width)
    low, high = torch.tensor(ERASED_RATIO).log().tolist()
    ratio = torch.empty(count).uniform_(low, high).exp()
    rows = _intervals((area * ratio).sqrt(), height)
    columns = _intervals((area / ratio).sqrt(), width)
    chosen = torch.rand(count) < PROBABILITY
    erased = (chosen[:, None, None] & rows[:, :, None] & columns[:, None, :])[..., None].to(image_NHWC.device)
    level = torch.randint(0, 256, (count, 1, 1, channels), dtype=torch.uint8).to(image_NHWC.device)
    return torch.where(erased, level, image_NHWC)


def _intervals(length: Tensor, side: int) -> Tensor:
    """One interval of about `length` pixels along a side for each image: bool `(count, side)`."""
    length = length.round().clamp(1, side)
    first = (torch.rand(len(length)) * (side - length + 1)).floor()
    place = torch.arange(side)
    return (place >= first[:, None]) & (place < (first + length)[:, None])


BATCHED: dict[str, Callable[[Tensor], Tensor]] = {"flip": _flip, "crop": _crop, "erase": _erase}


def _one_by_one(name: str, image_NHWC: Tensor) -> Tensor:
    _, height, width, _ = image_NHWC.shape
    transform = _transform(name, height, width)
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).contiguous()
    return torch.stack([transform(image) for image in image_NCHW]).permute(0, 2, 3, 1).contiguous()


def _torchvision() -> Any:
    from torchvision.transforms import v2  # slow to import, and most runs do not need it

    return v2


@cache
def _transform(name: str, height: int, width: int) -> Callable[[Tensor], Tensor]:
    """torchvision's transform of uint8 `(channels, height, width)`; on grey images, jitter leaves saturation alone."""
    v2 = _torchvision()
    transforms: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
        "resized-crop": lambda: v2.RandomResizedCrop((height, width), antialias=True),
        "rotate": lambda: v2.RandomRotation(ROTATION_DEGREES, v2.InterpolationMode.BILINEAR),
        "color-jitter": lambda: v2.ColorJitter(JITTER, JITTER, JITTER),
        "trivial": lambda: v2.TrivialAugmentWide(),
        "randaugment": lambda: v2.RandAugment(),
    }
    return transforms[name]()
