"""Graph: a float32 graph gets QuantizeLinear and DequantizeLinear (QDQ), which runtimes turn into integer kernels.

In the file every node still computes in float32, between values that were rounded to integers. A runtime replaces
DequantizeLinear, node, QuantizeLinear by one kernel on integers.

Source: ONNX operators QuantizeLinear and DequantizeLinear; onnxruntime, "Quantize ONNX models".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from onward_export.passes.linear_layer import constant_value, only_consumer, register_constant, remove_unused
from onward_export.quantization.calibration import Ranges
from onward_export.quantization.integers import Activation, WeightBits, quantize_weights
from onward_export.quantization.placement import BOUNDING, LAYERS, IntegerPlacement, RawPixels, axis_of_outputs, place

__all__ = ["bias_of", "quantize_graph"]


def quantize_graph(
    prepared: ir.Model, ranges: Ranges, *, weight_bits: WeightBits, in_float: frozenset[str] = frozenset()
) -> ir.Model:
    """A copy of a prepared float32 model that computes with integers.

    Args:
        prepared: From `prepare`.
        ranges: Of every value that `place` measures without `in_float`.
        weight_bits: 7 or 8.
        in_float: Names of nodes that stay in float32.
    """
    model = prepared.clone()
    placement = place(model, in_float)
    writer = _Writer(
        model.graph, placement, {value: _activation(value, placement, ranges) for value in placement.values}
    )
    for pixels in placement.pixels:
        writer.add_pixels(pixels)
    for value in placement.values:
        writer.add_value(value)
    for node in placement.nodes:
        if node.op_type in LAYERS:
            writer.quantize_layer(node, weight_bits)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return model


def bias_of(layer: ir.Node, placement: IntegerPlacement) -> NDArray[np.float64] | None:
    """The bias `(outputs,)` of a layer among integers: its own, with what the mean of the pixels leaves."""
    bias, weight = layer.inputs[2] if len(layer.inputs) > 2 else None, layer.inputs[1]
    own = None if bias is None else constant_value(bias)
    own = None if own is None else own.reshape(-1)
    stored = None if weight is None else constant_value(weight)
    shifted = [pixels for pixels in placement.pixels if pixels.layer is layer]
    if not shifted or stored is None:
        return own
    rest = _of_remainder(shifted[0], stored)
    return rest if own is None else own + rest


def _activation(value: ir.Value, placement: IntegerPlacement, ranges: Ranges) -> Activation:
    found = ranges[placement.source(value).name or ""]
    return Activation.of_range(found.low, found.high)


class _Writer:
    """Adds the nodes, one value and one layer after the other."""

    def __init__(
        self, graph: ir.Graph, placement: IntegerPlacement, activations: Mapping[ir.Value, Activation]
    ) -> None:
        self.graph = graph
        #: Dequantised value -> how it was quantised.
        self.read: dict[ir.Value, Activation] = {}
        self.activations = activations
        self.parameters: dict[ir.Value, list[ir.Value]] = {}
        self.biases = {node: bias_of(node, placement) for node in placement.nodes if node.op_type in LAYERS}

    def add_pixels(self, pixels: RawPixels) -> None:
        """Bytes go in as they are."""
        self._dequantize(pixels.bytes, pixels.value, pixels.activation)

    def add_value(self, value: ir.Value) -> None:
        """Round a value behind its producer; whatever reads it reads the rounded one."""
        activation, name = self.activations[value], value.name or "value"
        quantize = self._append(
            "QuantizeLinear",
            [_without_bound(value, activation), *self._parameters(value, activation)],
            f"{name}_quantize",
        )
        rounded = _typed(quantize, f"{name}_quantized", ir.DataType.UINT8, value.shape)
        self._dequantize(rounded, value, activation, but=quantize)

    def quantize_layer(self, layer: ir.Node, bits: WeightBits) -> None:
        """Round a layer's weight and bias."""
        weight, bias = layer.inputs[1], layer.inputs[2] if len(layer.inputs) > 2 else None
        source = layer.inputs[0]
        assert weight is not None
        assert source is not None
        stored = constant_value(weight)
        assert stored is not None
        axis, name = axis_of_outputs(layer), (weight.name or "weight").removesuffix(".weight")
        integers = quantize_weights(stored, self.biases[layer], axis, self.read[source].scale, bits)
        zeros = np.zeros(len(integers.scales), np.int8)
        new = [self._constant(f"{name}.weight", integers.weight, integers.scales, zeros, axis)]
        if integers.bias is not None:
            new.append(self._constant(f"{name}.bias", integers.bias, integers.bias_scales, None, 0))
        if len(layer.inputs) < 1 + len(new):
            layer.resize_inputs(1 + len(new))
        for index, value in enumerate(new, start=1):
            layer.replace_input_with(index, value)
        remove_unused(self.graph, [weight, bias])

    def _dequantize(
        self, rounded: ir.Value, value: ir.Value, activation: Activation, but: ir.Node | None = None
    ) -> None:
        name = value.name or "value"
        node = self._append("DequantizeLinear", [rounded, *self._parameters(value, activation)], f"{name}_dequantize")
        result = _typed(node, f"{name}_dequantized", ir.DataType.FLOAT, value.shape)
        for user, index in list(value.uses()):
            if user is not but:
                user.replace_input_with(index, result)
        self.read[result] = activation

    def _constant(
        self,
        name: str,
        integers: NDArray[Any],
        scales: NDArray[np.float32],
        zero_points: NDArray[Any] | None,
        axis: int,
    ) -> ir.Value:
        """A constant that is stored as integers."""
        inputs = [self._initializer(f"{name}_integers", integers), self._initializer(f"{name}_scales", scales)]
        if zero_points is not None:
            inputs.append(self._initializer(f"{name}_zero_points", zero_points))
        node = self._append("DequantizeLinear", inputs, f"{name}_dequantize", {"axis": axis})
        return _typed(node, f"{name}_dequantized", ir.DataType.FLOAT, ir.Shape(integers.shape))

    def _append(
        self, op_type: str, inputs: Sequence[ir.Value], name: str, attributes: Mapping[str, int] | None = None
    ) -> ir.Node:
        node = ir.node(op_type, inputs, attributes, name=name)
        self.graph.append(node)
        return node

    def _parameters(self, value: ir.Value, activation: Activation) -> list[ir.Value]:
        """Scale and zero point, both of shape `()`; a value's two nodes share them."""
        if value not in self.parameters:
            name = f"{value.name}_scale"
            self.parameters[value] = [
                self._initializer(name, activation.scale),
                self._initializer(f"{name}_zero", activation.zero_point),
            ]
        return self.parameters[value]

    def _initializer(self, name: str, array: NDArray[Any] | np.generic) -> ir.Value:
        tensor = ir.tensor(np.asarray(array), name=name)
        value = ir.Value(name=name, const_value=tensor)
        value.shape, value.dtype = ir.Shape(tensor.numpy().shape), tensor.dtype
        register_constant(self.graph, value)
        return value


def _typed(node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    value = node.outputs[0]
    value.name, value.dtype, value.shape = name, dtype, shape
    return value


def _without_bound(value: ir.Value, activation: Activation) -> ir.Value:
    """What to round in place of a value behind Relu or Clip, where the integers end inside its bounds."""
    node = value.producer()
    if node is None or node.op_type not in BOUNDING or node.inputs[0] is None or value.is_graph_output():
        return value
    if only_consumer(node.inputs[0]) is not node:
        return value
    bounds = [0.0, np.inf] if node.op_type == "Relu" else [_bound(node, 1, -np.inf), _bound(node, 2, np.inf)]
    low, high = activation.range
    fits = bounds[0] <= low and high <= bounds[1] * (1 + np.finfo(np.float32).eps)
    return node.inputs[0] if fits else value


def _bound(clip: ir.Node, index: int, default: float) -> float:
    value = clip.inputs[index] if len(clip.inputs) > index else None
    if value is None:
        return default
    constant = constant_value(value)
    return np.nan if constant is None else float(constant)


def _of_remainder(pixels: RawPixels, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the rest of the mean adds to the bias, away from the borders."""
    assert pixels.remainder is not None
    rest = pixels.remainder
    if len(rest) == weight.shape[1]:
        per_channel: NDArray[np.float64] = weight.reshape(*weight.shape[:2], -1).sum(2) @ rest
        return per_channel
    columns = np.tile(rest, weight.shape[-1] // len(rest))  # the kernel holds the channels side by side
    per_column: NDArray[np.float64] = weight.reshape(len(weight), -1, weight.shape[-1]).sum(1) @ columns
    return per_column
