"""Batch norm, folded into the layer before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onward_export.passes.linear_layer import LinearLayer, constant, follows_alone

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True)
class FoldBatchNorm:
    """`γ (w x + b - μ) / √(σ² + ε) + β` becomes a convolution or linear layer of other weights.

    Precondition: batch norm in inference mode, with constant parameters, is all that uses the output of a linear
    layer with constant parameters. Computed in float64 and rounded to float32 once: the exporter's rule does it in
    float32, and so does onnxruntime where a file leaves it to it.
    """

    name: str = "batch norm into the layer before"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold every one; where one follows another, both."""
        num_applied = 0
        while site := next(_sites(model), None):
            site.fold()
            num_applied += 1
        return num_applied

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Batch norms that could be folded."""
        return [site.norm.name or "BatchNormalization" for site in _sites(model)]


@dataclass(frozen=True)
class _Site:
    layer: LinearLayer
    norm: ir.Node
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]

    def fold(self) -> None:
        rows = self.layer.rows() * self.factor[:, None, None]
        self.layer.replace(self.norm, rows, self.layer.offsets() * self.factor + self.shift)


def _sites(model: ir.Model) -> Iterator[_Site]:
    for node in model.graph:
        if node.op_type == "BatchNormalization" and (site := _site(node)):
            yield site


def _site(norm: ir.Node) -> _Site | None:
    source = norm.inputs[0]
    before = source.producer() if source is not None else None
    if source is None or before is None or follows_alone(source) is not norm:
        return None
    if norm.attributes.get_int("training_mode", 0) or any(value.uses() for value in norm.outputs[1:]):
        return None
    layer = LinearLayer.ending_at(before)
    parameters = [constant(value) for value in norm.inputs[1:5] if value is not None]
    gamma, beta, mean, variance = (item for item in [*parameters, None, None, None, None][:4])
    if layer is None or gamma is None or beta is None or mean is None or variance is None:
        return None
    if gamma.shape != (len(layer.rows()),):
        return None
    factor = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    return _Site(layer, norm, factor, beta - mean * factor)
