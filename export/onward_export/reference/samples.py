"""Samples: the inputs on which artifacts are compared with the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from onward.feed import Feed, draw, from_pixels, take
from onward.feed import num_samples as count
from onward.parity import CONSTANT
from onward.signature import AnySignature, Signature, TensorSignature

__all__ = ["NUM_FIRST", "NUM_GOLDEN", "NUM_SAMPLES", "RANDOM", "REAL", "RESIZED", "gather_samples"]

REAL, RANDOM, RESIZED = "real", "random", "resized"
#: The most samples of each kind in the gate. With this many, one lucky sample does not decide the noise floor.
NUM_SAMPLES = 64
#: The gate begins with so many, and takes more while its verdict is not certain.
NUM_FIRST = 8
#: The most samples of each kind in the golden record of the bundle.
NUM_GOLDEN = 32


def gather_samples(
    signature: AnySignature, real: Feed | None, *, num_samples: int = NUM_SAMPLES, seed: int = 0
) -> dict[str, Feed]:
    """Kind -> samples, as the model takes them.

    Args:
        signature: The inputs.
        real: Real samples, or None; images are uint8 `(count, height, width, channels)`.
        num_samples: The number of samples of each kind.
        seed: The seed of the random samples.
    """
    generator = np.random.default_rng(seed)
    samples = {RANDOM: draw(signature, num_samples, generator)}
    if real is not None and count(real):
        some = take(real, slice(num_samples))
        if isinstance(signature, Signature) and isinstance(some, np.ndarray):
            some = from_pixels(np.ascontiguousarray(some), signature)
        samples = {REAL: some} | samples
    if not isinstance(signature, Signature):
        return samples | {CONSTANT: _constant_tensors(signature)}
    if signature.dynamic_size:
        height, width = signature.height + signature.height // 4, signature.width + signature.width // 2
        samples |= {RESIZED: draw(replace(signature, height=height, width=width), num_samples, generator)}
    return samples | {CONSTANT: from_pixels(np.stack(_constant_images(signature.image_shape)), signature)}


def _constant_tensors(signature: TensorSignature) -> Feed:
    """All zeros or the smallest value, all ones or the largest."""
    arrays = {}
    for item in signature.inputs:
        one = item.draw(1, np.random.default_rng(0))
        low, high = item.range or (0, 1)
        arrays[item.name] = np.concatenate([np.full_like(one, low), np.full_like(one, high)])
    return arrays if len(arrays) > 1 else next(iter(arrays.values()))


def _constant_images(shape: Sequence[int]) -> list[NDArray[np.uint8]]:
    black = np.zeros(shape, np.uint8)
    hot = black.copy()
    hot[shape[0] // 2, shape[1] // 2] = 255
    rows, columns = np.indices(shape[:2])
    checkerboard = np.broadcast_to(255 * ((rows + columns) % 2)[..., None], shape).astype(np.uint8)
    return [black, np.full(shape, 255, np.uint8), np.full(shape, 128, np.uint8), hot, checkerboard]
