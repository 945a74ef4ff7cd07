"""Augmentation: shapes stay, pixels come from the image, and each image is drawn on its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from onward.errors import UsageError
from onward_training.augmentation import Augment
from onward_training.options import AUGMENTATIONS, parse_augmentation


def make_images(count: int, height: int = 28, width: int = 20, channels: int = 3, seed: int = 0) -> Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, channels), np.uint8)
    return torch.from_numpy(pixels)


def augmented(names: str, images: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return Augment(parse_augmentation(names))(images)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_keeps_shape_and_dtype_and_changes_pixels(name: str, channels: int) -> None:
    images = make_images(16, channels=channels)
    before = images.clone()
    changed = augmented(name, images)
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert not torch.equal(changed, images)
    assert torch.equal(images, before), "the input was written to"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_seed_gives_the_same_images(name: str) -> None:
    images = make_images(8)
    assert torch.equal(augmented(name, images, 3), augmented(name, images, 3))
    assert not torch.equal(augmented(name, images, 3), augmented(name, images, 4))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_image_is_drawn_on_its_own(name: str) -> None:
    changed = augmented(name, make_images(1).expand(32, -1, -1, -1).contiguous())
    assert len({image.numpy().tobytes() for image in changed}) > 1


@pytest.mark.parametrize("side", [1, 2, 3, 8])
@pytest.mark.parametrize("name", ["flip", "crop", "erase"])
def test_small_images_and_batches_are_augmented_too(name: str, side: int) -> None:
    assert augmented(name, make_images(5, side, side, 1)).shape == (5, side, side, 1)
    assert augmented(name, make_images(0, side, side, 1)).shape == (0, side, side, 1)


def test_flip_mirrors_half_of_the_images_from_left_to_right() -> None:
    images = make_images(400)
    changed = augmented("flip", images)
    mirrored = (changed == images.flip(2)).flatten(1).all(1)
    same = (changed == images).flatten(1).all(1)
    assert bool((mirrored ^ same).all())
    assert 140 < int(mirrored.sum()) < 260  # 6 standard deviations of a fair coin


def test_crop_is_a_window_of_the_image_reflected_at_its_borders() -> None:
    images = make_images(200, 16, 24, 3)
    padded = np.pad(images.numpy(), ((0, 0), (2, 2), (3, 3), (0, 0)), mode="reflect")
    seen = set()
    for source, changed in zip(padded, augmented("crop", images).numpy(), strict=True):
        found = [
            (top, left)
            for top in range(5)
            for left in range(7)
            if np.array_equal(source[top : top + 16, left : left + 24], changed)
        ]
        assert len(found) == 1
        seen |= set(found)
    assert {top for top, _ in seen} == set(range(5))
    assert {left for _, left in seen} == set(range(7))


def test_erase_covers_a_rectangle_of_one_colour_and_leaves_the_rest() -> None:
    images = make_images(300, 32, 40)
    num_erased = 0
    for before, after in zip(images, augmented("erase", images), strict=True):
        rows, columns = (torch.nonzero((before != after).any(2).any(axis)).flatten() for axis in (1, 0))
        if not len(rows):
            continue
        num_erased += 1
        inside = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert len(inside.reshape(-1, 3).unique(dim=0)) == 1
        assert inside[..., 0].numel() < 0.45 * 32 * 40  # a third, and what rounding to whole pixels adds
    assert 90 < num_erased < 210


def test_augmentations_are_done_in_the_order_of_their_names() -> None:
    images = make_images(8)
    torch.manual_seed(0)
    expected = Augment(["crop"])(Augment(["flip"])(images))
    assert torch.equal(augmented("flip,crop", images), expected)
    assert not torch.equal(augmented("crop,flip", images), expected)


@pytest.mark.parametrize(
    ("text", "names"), [("", ()), ("none", ()), (" none ", ()), ("flip", ("flip",)), ("flip, crop", ("flip", "crop"))]
)
def test_names_are_read_from_a_comma_separated_list(text: str, names: tuple[str, ...]) -> None:
    assert parse_augmentation(text) == names


@pytest.mark.parametrize("text", ["flop", "flip,,crop", "flip,none", "Flip"])
def test_an_unknown_name_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UsageError, match=r"unknown.*flip, crop, resized-crop.*randaugment"):
        parse_augmentation(text)


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Did you mean color-jitter\?"):
        Augment(["colour-jitter"])
