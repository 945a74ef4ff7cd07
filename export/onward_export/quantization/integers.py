"""Integers: how weights, biases and activations are rounded to integers. Everything is numpy and deterministic.

An activation is uint8 with one scale and one zero point, so that 0 is exact. A weight is int8 without a zero point,
with a scale for each output. A bias is int32; its scale is the product of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward_export.passes.layer_weights import Float64

__all__ = ["MIN_SCALE", "NUM_STEPS", "Activation", "QuantizedWeights", "WeightBits", "quantize_weights"]

#: Steps between the smallest and the largest uint8.
NUM_STEPS = 255
#: A bias of so many steps leaves room for the sum of products in int32.
MAX_BIAS_STEPS = 1 << 30
#: No scale is smaller, so that a product of two is a float32 above 0. Values below it count as 0.
MIN_SCALE = 1e-15
WeightBits = int


@dataclass(frozen=True)
class Activation:
    """How the values of one tensor become uint8: `round(x / scale) + zero_point`, clipped to 0 to 255.

    Args:
        scale: float32, positive: the distance of two neighbours.
        zero_point: uint8: the integer of 0.
    """

    scale: np.float32
    zero_point: np.uint8

    @classmethod
    def of_range(cls, low: float, high: float) -> Activation:
        """For values from `low` to `high`. 0 is always in the range."""
        low, high = min(low, 0.0), max(high, 0.0)
        if low == high:
            high = 1.0
        scale = np.float32(max((high - low) / NUM_STEPS, MIN_SCALE))
        return cls(scale, np.uint8(np.clip(np.rint(-low / float(scale)), 0, NUM_STEPS)))

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that has an integer."""
        scale, zero = float(self.scale), int(self.zero_point)
        return -zero * scale, (NUM_STEPS - zero) * scale


@dataclass(frozen=True)
class QuantizedWeights:
    """The weight and the bias of a layer as integers.

    Args:
        weight: int8, in the operator's layout.
        scales: float32 `(outputs,)`.
        bias: int32 `(outputs,)`; None where the layer has none.
        bias_scales: float32 `(outputs,)`.
    """

    weight: NDArray[np.int8]
    scales: NDArray[np.float32]
    bias: NDArray[np.int32] | None
    bias_scales: NDArray[np.float32]


def quantize_weights(
    weight: Float64, bias: Float64 | None, axis: int, input_scale: np.float32, bits: WeightBits
) -> QuantizedWeights:
    """Round a layer's weight and bias.

    With 7 bits a product of two neighbours in the input fits into 16 bits. Processors without VNNI add such pairs in 16
    bits and saturate where they do not fit.

    Args:
        weight: In the operator's layout.
        bias: `(outputs,)`, or None.
        axis: Which axis of the weight counts outputs.
        input_scale: The scale of the activation that the weight is multiplied with.
        bits: 7 or 8.
    """
    largest = (1 << (bits - 1)) - 1
    others = tuple(item for item in range(weight.ndim) if item != axis)
    scales = np.abs(weight).max(others) / largest
    if bias is not None:  # a bias far above the products needs larger steps, or it does not fit into int32
        scales = np.maximum(scales, np.abs(bias) / float(input_scale) / MAX_BIAS_STEPS)
    scales = np.maximum(scales, MIN_SCALE).astype(np.float32)
    column = [-1 if item == axis else 1 for item in range(weight.ndim)]
    steps = np.rint(weight / scales.astype(np.float64).reshape(column))
    bias_scales = (np.float64(input_scale) * scales.astype(np.float64)).astype(np.float32)
    rounded = None if bias is None else np.rint(bias / bias_scales.astype(np.float64)).astype(np.int32)
    return QuantizedWeights(np.clip(steps, -largest, largest).astype(np.int8), scales, rounded, bias_scales)
