"""Layer weights: what the weight and the bias of a linear layer become when a neighbour is folded into the layer.

The formulas of every fold stand here and nowhere else. The passes use them to change an ONNX graph, and
`onward_export.weights` uses them to compute the same fold again from the checkpoint. Everything is float64.

A weight is held as *rows*, `(outputs, inputs of a group, kernel positions)`, whatever layout its operator stores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float64", "LayerWeights", "Layout", "scale_and_shift_of_batch_norm"]

Float64 = NDArray[np.float64]
#: How an operator stores its weight: `(outputs, inputs of a group, *kernel)`, `(inputs, outputs of a group, *kernel)`,
#: `(outputs, inputs)`.
Layout = Literal["convolution", "transposed convolution", "matrix"]


def scale_and_shift_of_batch_norm(
    gamma: Float64, beta: Float64, mean: Float64, variance: Float64, epsilon: float
) -> tuple[Float64, Float64]:
    """Batch norm in inference mode, `γ (x - μ) / √(σ² + ε) + β`, as a scale and a shift `(channels,)`."""
    scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale


@dataclass(frozen=True)
class LayerWeights:
    """The weight and the bias of a linear layer, unrounded.

    Args:
        rows: `(outputs, inputs of a group, kernel positions)`.
        bias: `(outputs,)`, zeros where the layer has none.
        layout: How the weight is stored.
        kernel: The kernel's sizes, e.g. `(3, 3)`; empty for a matrix.
        groups: 1 except for grouped convolutions.
    """

    rows: Float64
    bias: Float64
    layout: Layout
    kernel: tuple[int, ...] = ()
    groups: int = 1

    @classmethod
    def from_stored(cls, weight: Float64, bias: Float64 | None, layout: Layout, groups: int = 1) -> LayerWeights:
        """Read a weight `layout` and a bias `(outputs,)` or `(1, outputs)`."""
        kernel = weight.shape[2:]
        if layout == "transposed convolution":
            grouped = weight.reshape(groups, -1, weight.shape[1], math.prod(kernel))
            rows = grouped.swapaxes(1, 2).reshape(-1, grouped.shape[1], grouped.shape[3])
        else:
            rows = weight.reshape(*weight.shape[:2], -1)
        return cls(rows, np.zeros(len(rows)) if bias is None else bias.reshape(-1), layout, kernel, groups)

    def stored(self) -> Float64:
        """The weight in the operator's layout."""
        match self.layout:
            case "convolution":
                return self.rows.reshape(self.num_outputs, -1, *self.kernel)
            case "transposed convolution":
                grouped: Float64 = self.rows.reshape(self.groups, -1, *self.rows.shape[1:]).swapaxes(1, 2)
                return grouped.reshape(self.num_inputs, -1, *self.kernel)
            case "matrix":
                return self.rows[:, :, 0]

    @property
    def num_outputs(self) -> int:
        """Channels or features that the layer gives."""
        return len(self.rows)

    @property
    def num_inputs(self) -> int:
        """Channels or features that the layer takes, all groups together."""
        return int(self.rows.shape[1]) * self.groups

    def with_output(self, scale: Float64, shift: Float64) -> LayerWeights:
        """Fold in what follows the layer: `scale y + shift`, each `(outputs,)`."""
        return replace(self, rows=self.rows * scale[:, None, None], bias=self.bias * scale + shift)

    def with_input(self, scale: Float64, shift: Float64 | None = None) -> LayerWeights:
        """Fold in what precedes the layer: `scale x + shift`, each `(inputs,)`. Not for a transposed convolution."""
        scaled = replace(self, rows=self.rows * self._per_input(scale))
        return scaled if shift is None else replace(scaled, bias=self.bias + self.shift_terms(shift).sum((1, 2)))

    def shift_terms(self, shift: Float64) -> Float64:
        """What a shift of the inputs `(inputs,)` adds to the bias, one term for each value of the rows."""
        terms: Float64 = self.rows * self._per_input(shift)
        return terms

    def with_repeat(self, times: int) -> LayerWeights:
        """Fold in a repeat of the input's channels: the weights of equal channels are added. For one group."""
        rows = self.rows.reshape(self.num_outputs, times, -1, self.rows.shape[2]).sum(1)
        return replace(self, rows=rows)

    def with_interleaved_pixels(self, image_size: tuple[int, int]) -> LayerWeights:
        """Take pixels `(height, width, channels)` in place of planes. For one group, not transposed.

        A convolution then sees one plane whose rows hold the channels side by side. A matrix has its columns in the
        order of the pixels.

        Args:
            image_size: `(height, width)` of the planes.
        """
        down, across = self.kernel or image_size
        interleaved = self.rows.reshape(self.num_outputs, -1, down, across).transpose(0, 2, 3, 1)
        if self.layout == "matrix":
            return replace(self, rows=interleaved.reshape(self.num_outputs, -1, 1))
        kernel = (down, across * interleaved.shape[3])
        return replace(self, rows=interleaved.reshape(self.num_outputs, 1, -1), kernel=kernel)

    def _per_input(self, values: Float64) -> Float64:
        """Values `(inputs,)` along the rows: `(outputs, inputs of a group, 1)`."""
        return np.repeat(values.reshape(self.groups, -1), self.num_outputs // self.groups, axis=0)[:, :, None]
