"""Samples: the images on which artifacts are held against the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.parity import CONSTANT
from runtime.signature import Signature

__all__ = ["NUM_GOLDEN", "NUM_SAMPLES", "RANDOM", "REAL", "gather"]

REAL, RANDOM = "real", "random"
#: Of a kind, in the gate. Pooled over this many, one lucky sample does not decide the noise floor.
NUM_SAMPLES = 64
#: Of a kind, in the golden record that travels.
NUM_GOLDEN = 32


def gather(
    signature: Signature, real: NDArray[np.uint8] | None, *, num_samples: int = NUM_SAMPLES, seed: int = 0
) -> dict[str, NDArray[np.uint8]]:
    """Kind -> uint8 `(samples, height, width, channels)`.

    Args:
        signature: The shape of an image.
        real: Real images, or None where there are none.
        num_samples: Of a kind; at least 32 make a noise floor that does not depend on luck.
        seed: Of the random pixels.
    """
    shape = signature.image_shape
    samples = {RANDOM: np.random.default_rng(seed).integers(0, 256, (num_samples, *shape), np.uint8)}
    if real is not None and len(real):
        samples = {REAL: np.ascontiguousarray(real[:num_samples])} | samples
    return samples | {CONSTANT: np.stack(_constant_images(shape))}


def _constant_images(shape: Sequence[int]) -> list[NDArray[np.uint8]]:
    black = np.zeros(shape, np.uint8)
    hot = black.copy()
    hot[shape[0] // 2, shape[1] // 2] = 255
    rows, columns = np.indices(shape[:2])
    checkerboard = np.broadcast_to(255 * ((rows + columns) % 2)[..., None], shape).astype(np.uint8)
    return [black, np.full(shape, 255, np.uint8), np.full(shape, 128, np.uint8), hot, checkerboard]
