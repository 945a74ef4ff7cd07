"""Placement: which nodes of a graph compute with integers, and which values between them are quantised.

Kernels for integers are used where a node stands between DequantizeLinear and QuantizeLinear. A value that a Relu or
Clip bounds is quantised behind it. Operators that only move values (MaxPool, Reshape …) keep the scale of their input.
Raw pixels are integers already: they go into the first layer as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from onward_export.passes.layer_weights import Float64
from onward_export.passes.linear_layer import constant_value, only_consumer
from onward_export.quantization.integers import NUM_STEPS, Activation

__all__ = ["BOUNDING", "LAYERS", "IntegerPlacement", "RawPixels", "name_of", "place"]

#: Operators with a weight.
LAYERS = ("Conv", "Gemm", "MatMul")
#: Operators on activations alone, all of whose inputs are quantised.
ARITHMETIC = ("Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool")
#: Operators that only move values.
MOVING = ("Reshape", "Flatten", "Transpose", "MaxPool", "Squeeze", "Unsqueeze", "Identity")
#: Operators that bound values.
BOUNDING = ("Relu", "Clip")


@dataclass(frozen=True)
class RawPixels:
    """Raw pixels that a layer takes as they are.

    Args:
        value: float32: what the layer read before.
        bytes: uint8: what it reads now.
        activation: Scale 1; the zero point is the mean of the pixels, where the graph subtracts one.
        remainder: float64 `(channels,)` or `(1,)`: what the mean leaves; it goes into the layer's bias.
        layer: The layer, where there is a remainder.
    """

    value: ir.Value
    bytes: ir.Value
    activation: Activation
    remainder: Float64 | None = None
    layer: ir.Node | None = None


@dataclass(frozen=True)
class IntegerPlacement:
    """What is quantised in one graph.

    Args:
        nodes: The nodes that compute with integers.
        pixels: Values that are raw pixels.
    """

    nodes: tuple[ir.Node, ...]
    pixels: tuple[RawPixels, ...]

    @cached_property
    def values(self) -> tuple[ir.Value, ...]:
        """Values that are quantised, without pixels."""
        found = dict.fromkeys(value for node in self.nodes for value in (*_activations(node), *self._results(node)))
        chain = dict.fromkeys(step for value in found for step in _moves(value))
        raw = {pixels.value for pixels in self.pixels}
        return tuple(value for value in chain if value not in raw and not raw & set(_moves(value)))

    @cached_property
    def measured(self) -> tuple[ir.Value, ...]:
        """The values whose ranges have to be measured; others take the range of one of these."""
        return tuple(dict.fromkeys(_moves(value)[-1] for value in self.values))

    def source(self, value: ir.Value) -> ir.Value:
        """The value whose range this one takes: itself, unless an operator only moved it."""
        return _moves(value)[-1]

    def _results(self, node: ir.Node) -> Iterator[ir.Value]:
        """The value that is quantised behind a node; none where a matrix product ends the integers."""
        value = _bounded(node.outputs[0])
        if node.op_type not in ("Gemm", "MatMul") or self._is_read(value):
            yield value

    def _is_read(self, value: ir.Value) -> bool:
        """Whether a node that computes with integers reads a value, perhaps moved."""
        return any(
            node in self._set or (node.op_type in MOVING and self._is_read(node.outputs[0])) for node, _ in value.uses()
        )

    @cached_property
    def _set(self) -> frozenset[ir.Node]:
        return frozenset(self.nodes)


def place(model: ir.Model, in_float: Collection[str] = ()) -> IntegerPlacement:
    """Choose nodes and values of a prepared graph.

    Args:
        model: From `prepare`.
        in_float: Names of nodes that stay in float32, as `name_of` gives them.
    """
    nodes = tuple(node for node in model.graph if _can_be_integer(node) and name_of(node) not in in_float)
    casts = [node for node in model.graph if node.op_type == "Cast" and _is_of_bytes(node)]
    return IntegerPlacement(nodes, tuple(_pixels(cast, frozenset(nodes)) for cast in casts))


def name_of(node: ir.Node) -> str:
    """A name for people and recipes: that of the weight, without its ending, or of the output."""
    weight = node.inputs[1] if node.op_type in LAYERS else None
    name = (weight.name if weight is not None else None) or node.outputs[0].name or ""
    return name.removesuffix(".weight")


def _can_be_integer(node: ir.Node) -> bool:
    if node.op_type in LAYERS:
        weight = constant_value(node.inputs[1]) if node.inputs[1] is not None else None
        return weight is not None and _is_plain(node, weight)
    inputs = [value for value in node.inputs if value is not None]
    return node.op_type in ARITHMETIC and all(
        value.dtype == ir.DataType.FLOAT and not value.is_initializer() for value in inputs
    )


def _is_plain(layer: ir.Node, weight: Float64) -> bool:
    """Whether the layer is one product and one sum, with a bias for each output."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    offset = None if bias is None else constant_value(bias)
    if bias is not None and (offset is None or offset.size != weight.shape[axis_of_outputs(layer)]):
        return False
    if layer.op_type == "Conv":
        return weight.ndim >= 3
    attributes = layer.attributes
    factors = [attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return weight.ndim == 2 and factors == [1, 1] and attributes.get_int("transA", 0) == 0


def axis_of_outputs(layer: ir.Node) -> int:
    """Which axis of a layer's weight counts its outputs."""
    return 0 if layer.op_type == "Conv" or layer.attributes.get_int("transB", 0) == 1 else 1


def _activations(node: ir.Node) -> list[ir.Value]:
    inputs = node.inputs[:1] if node.op_type in LAYERS else node.inputs
    return [value for value in inputs if value is not None]


def _bounded(value: ir.Value) -> ir.Value:
    """The value behind a Relu or Clip, where that alone reads this one."""
    after = only_consumer(value)
    return after.outputs[0] if after is not None and after.op_type in BOUNDING else value


def _moves(value: ir.Value) -> list[ir.Value]:
    """A value, the one it was moved from, and so on."""
    found, producer = [value], value.producer()
    while producer is not None and producer.op_type in MOVING and producer.inputs[0] is not None:
        if producer.inputs[0].dtype != ir.DataType.FLOAT:
            break
        found.append(producer.inputs[0])
        producer = producer.inputs[0].producer()
    return found


def _is_of_bytes(cast: ir.Node) -> bool:
    source = cast.inputs[0]
    return source is not None and source.dtype == ir.DataType.UINT8 and cast.outputs[0].dtype == ir.DataType.FLOAT


def _pixels(cast: ir.Node, nodes: frozenset[ir.Node]) -> RawPixels:
    """What becomes of pixels that are cast, with the mean that is subtracted for one convolution."""
    source, raw = cast.inputs[0], Activation(np.float32(1), np.uint8(0))
    assert source is not None
    plain = RawPixels(cast.outputs[0], source, raw)
    add = only_consumer(cast.outputs[0])
    if add is None or add.op_type != "Add" or add.inputs[1] is None:
        return plain
    shift, layer = constant_value(add.inputs[1]), only_consumer(add.outputs[0])
    if shift is None or layer is None or layer.op_type != "Conv" or layer not in nodes:
        return plain
    means = _per_channel(-shift, layer)
    zero_point = int(np.rint((means.min() + means.max()) / 2))
    if means.size == 0 or not 0 <= zero_point <= NUM_STEPS:
        return plain
    return RawPixels(add.outputs[0], source, Activation(np.float32(1), np.uint8(zero_point)), zero_point - means, layer)


def _per_channel(shift: Float64, layer: ir.Node) -> Float64:
    """A shift as one number for each channel, or one for all; empty where it is neither.

    After `FoldPixelLayout` the shift is that of a row with the channels side by side, and so are the kernel's columns.
    """
    weight = constant_value(layer.inputs[1]) if layer.inputs[1] is not None else None
    assert weight is not None
    if shift.size == 1 or shift.shape == (weight.shape[1], 1, 1):
        return shift.reshape(-1)
    for channels in (3, 4, 2):
        row = shift.reshape(-1)
        if row.size == shift.shape[-1] and row.size % channels == weight.shape[-1] % channels == 0:
            first = row[:channels]
            if np.array_equal(row, np.tile(first, row.size // channels)):
                return first
    return np.empty(0)
