"""Normalisation: the scale and the shift of the pixels, folded into the first linear layer.

`w (s x + t) + b` is `(w s) x + (b + Σ w t)`. A padded convolution sees zeros of the *normalised* image around its
input, so its bias cannot take the shift. There `w (s x + t)` becomes `(w s) (x + t / s)`, which saves the scale: zero
stays zero in either unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onward_export.passes.layer_weights import Float64
from onward_export.passes.linear_layer import (
    FLATTENING,
    LinearLayer,
    constant_value,
    make_constant,
    only_consumer,
    register_constant,
    remove_unused,
)

__all__ = ["FoldNormalization"]

#: What may stand between the pixels and their scale.
PIXEL_OPERATORS = ("Cast", "Transpose", "Expand", "Tile", "Identity")


@dataclass(frozen=True)
class FoldNormalization:
    """Fold the pixels' scale and shift into the first layer, or the scale alone.

    Precondition: an input of the graph passes through casts, transposes and repeats alone, then through a constant
    scale and a constant shift, into one convolution, or flattened into one linear layer. Nothing else uses the values
    between. Where the shift can be folded, a repeat of one channel to several is folded too: the weights of equal
    channels are added.
    """

    name: str = "normalisation into the first layer"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold it for each input that has one."""
        num_applied = 0
        for node in list(model.graph):
            match = _match(node)
            if match is not None:
                match.fold()
                num_applied += 1
        return num_applied

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Scales that could be folded."""
        return [node.name or "Mul" for node in model.graph if _match(node)]


@dataclass(frozen=True)
class _Match:
    """Mul, Add, perhaps a Reshape or Flatten, a linear layer.

    Args:
        mul: The scale.
        add: The shift.
        flattening: The Reshape or Flatten before a layer with a matrix.
        layer: The first layer.
        scale: `(inputs,)` of the layer.
        shift: `(inputs,)` of the layer.
    """

    mul: ir.Node
    add: ir.Node
    flattening: ir.Node | None
    layer: LinearLayer
    scale: Float64
    shift: Float64

    def fold(self) -> None:
        if self.layer.is_padded and self.shift.any():
            self._fold_scale()
        else:
            self._fold_both()

    def _fold_scale(self) -> None:
        graph = _graph_of(self.mul)
        raw, scale, shift = _variable(self.mul), _constant_of(self.mul), _constant_of(self.add)
        unscaled = make_constant(shift.name or "shift", _array(shift) / _array(scale))
        self.add.replace_input_with(self.add.inputs.index(self.mul.outputs[0]), raw)
        self.add.replace_input_with(self.add.inputs.index(shift), unscaled)
        self.add.outputs[0].name = f"{self.add.outputs[0].name}_unscaled"
        graph.remove(self.mul, safe=True)
        remove_unused(graph, [shift, scale])
        register_constant(graph, unscaled)
        self.layer.replace(self.layer.last, self.layer.weights().with_input(self.scale))

    def _fold_both(self) -> None:
        graph, source = _graph_of(self.mul), _variable(self.mul)
        weights = self.layer.weights().with_input(self.scale, self.shift)
        tile, times = _repeat_before(source) if weights.groups == 1 else (None, 1)
        if tile is not None:
            source = tile.inputs[0] or source
            weights = weights.with_repeat(times)
        self.layer.replace(self.layer.last, weights, input=self._flattened(source, weights.rows.shape[1]))
        dead = [item for item in (self.flattening, self.add, self.mul, tile) if item is not None]
        constants = [value for item in dead for value in item.inputs]
        for item in dead:
            if not any(value.uses() for value in item.outputs):
                graph.remove(item, safe=True)
        remove_unused(graph, constants)

    def _flattened(self, source: ir.Value, num_inputs: int) -> ir.Value:
        """The raw pixels, flattened as the normalised ones were. The name is another one: the values are."""
        if self.flattening is None:
            return source
        graph, name = _graph_of(self.flattening), f"{self.flattening.outputs[0].name}_unscaled"
        sizes = ir.Value(name=f"{name}_shape", const_value=ir.tensor(np.array([-1, num_inputs], np.int64)))
        node = ir.node("Reshape", [source, sizes], name=self.flattening.name)
        node.metadata_props.update(self.flattening.metadata_props)
        node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
        batch = self.flattening.outputs[0].shape
        node.outputs[0].shape = ir.Shape([batch[0] if batch is not None else None, num_inputs])
        register_constant(graph, sizes)
        graph.insert_before(self.layer.first, node)
        return node.outputs[0]


def _match(mul: ir.Node) -> _Match | None:
    if mul.op_type != "Mul" or not _is_of_pixels(mul):
        return None
    add = only_consumer(mul.outputs[0])
    if add is None or add.op_type != "Add" or _sizes(add) is None or not _has_constant(add):
        return None
    first = only_consumer(add.outputs[0])
    flattening = first if first is not None and first.op_type in FLATTENING else None
    if flattening is not None:
        first = only_consumer(flattening.outputs[0])
    layer = LinearLayer.beginning_at(first) if first is not None else None
    if layer is None or layer.first.op_type == "ConvTranspose":
        return None
    source = flattening.outputs[0] if flattening is not None else add.outputs[0]
    if layer.first.inputs[0] is not source:
        return None
    scale, shift = (_per_input(node, flattening, layer) for node in (mul, add))
    if scale is None or shift is None or not scale.all():
        return None
    return _Match(mul, add, flattening, layer, scale, shift)


def _per_input(node: ir.Node, flattening: ir.Node | None, layer: LinearLayer) -> Float64 | None:
    """A scale or shift as `(inputs,)` of the layer; None where it has not one value for each input."""
    array, sizes = constant_value(_constant_of(node)), _sizes(node)
    num_inputs = layer.weights().num_inputs
    if array is None or sizes is None:
        return None
    if layer.first.op_type == "Conv":
        if flattening is not None:
            return None
        sizes = (num_inputs, *(1,) * (len(sizes) - 1))  # one value for each channel
    elif flattening is None or _width(flattening.outputs[0]) != math.prod(sizes) or num_inputs != math.prod(sizes):
        return None
    try:
        return np.broadcast_to(array, (1, *sizes)).reshape(-1)
    except ValueError:
        return None


def _array(value: ir.Value) -> Float64:
    array = constant_value(value)
    assert array is not None
    return array


def _is_of_pixels(node: ir.Node) -> bool:
    if _sizes(node) is None or not _has_constant(node):
        return False
    value = _variable(node)
    while (producer := value.producer()) is not None and producer.op_type in PIXEL_OPERATORS:
        before = producer.inputs[0]
        if before is None:
            return False
        value = before
    return value.is_graph_input()


def _has_constant(node: ir.Node) -> bool:
    values = [value for value in node.inputs if value is not None]
    return sum(constant_value(value) is not None for value in values) == 1 and len(values) == 2


def _constant_of(node: ir.Node) -> ir.Value:
    return next(value for value in node.inputs if value is not None and constant_value(value) is not None)


def _variable(node: ir.Node) -> ir.Value:
    return next(value for value in node.inputs if value is not None and constant_value(value) is None)


def _sizes(node: ir.Node) -> tuple[int, ...] | None:
    """The sizes of the output without the batch; None where one is not known, or the output is no batch."""
    shape = node.outputs[0].shape
    if shape is None or len(shape) < 2:
        return None
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return tuple(sizes) if len(sizes) == len(shape) - 1 else None


def _width(value: ir.Value) -> int | None:
    shape = value.shape
    return shape[1] if shape is not None and len(shape) == 2 and isinstance(shape[1], int) else None


def _repeat_before(value: ir.Value) -> tuple[ir.Node | None, int]:
    """The Tile that gives this value by repeating channels, and how often; (None, 1) where there is none."""
    tile = value.producer()
    if tile is None or tile.op_type != "Tile" or tile.inputs[1] is None or tile.inputs[0] is None:
        return None, 1
    times = ir.convenience.get_const_tensor(tile.inputs[1])
    if times is None or times.size < 2 or any(count != 1 for axis, count in enumerate(times.numpy()) if axis != 1):
        return None, 1
    return tile, int(times.numpy()[1])


def _graph_of(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph
