"""Batch norm, folded into the linear layer before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from onward_export.passes.layer_weights import Float64, scale_and_shift_of_batch_norm
from onward_export.passes.linear_layer import LinearLayer, constant_value, only_consumer

__all__ = ["FoldBatchNorm"]


@dataclass(frozen=True)
class FoldBatchNorm:
    """`γ (w x + b - μ) / √(σ² + ε) + β` becomes a convolution or linear layer with other weights.

    Precondition: a batch norm in inference mode with constant parameters is the only consumer of a linear layer with
    constant parameters. The fold is computed in float64 and rounded to float32 once. The exporter's own rule, and
    onnxruntime where a file still holds the batch norm, compute it in float32.
    """

    name: str = "batch norm into the layer before"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold every batch norm; where one follows another, both."""
        num_applied = 0
        while match := next(_matches(model), None):
            match.fold()
            num_applied += 1
        return num_applied

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Batch norms that could be folded."""
        return [match.norm.name or "BatchNormalization" for match in _matches(model)]


@dataclass(frozen=True)
class _Match:
    layer: LinearLayer
    norm: ir.Node
    scale: Float64
    shift: Float64

    def fold(self) -> None:
        self.layer.replace(self.norm, self.layer.weights().with_output(self.scale, self.shift))


def _matches(model: ir.Model) -> Iterator[_Match]:
    for node in model.graph:
        if node.op_type == "BatchNormalization" and (match := _match(node)):
            yield match


def _match(norm: ir.Node) -> _Match | None:
    source = norm.inputs[0]
    before = source.producer() if source is not None else None
    if source is None or before is None or only_consumer(source) is not norm:
        return None
    if norm.attributes.get_int("training_mode", 0) or any(value.uses() for value in norm.outputs[1:]):
        return None
    layer = LinearLayer.ending_at(before)
    parameters = [constant_value(value) for value in norm.inputs[1:5] if value is not None]
    gamma, beta, mean, variance = (item for item in [*parameters, None, None, None, None][:4])
    if layer is None or gamma is None or beta is None or mean is None or variance is None:
        return None
    if gamma.shape != (layer.weights().num_outputs,):
        return None
    epsilon = norm.attributes.get_float("epsilon", 1e-5)
    return _Match(layer, norm, *scale_and_shift_of_batch_norm(gamma, beta, mean, variance, epsilon))
