"""Normalisation: the scale and shift of the pixels, folded into the first linear layer.

`w (s x + t) + b` is `(w s) x + (b + Σ w t)`. Around a padded convolution stand zeros of the *normalised* image, so
that its bias cannot take the shift; there `w (s x + t)` becomes `(w s) (x + t / s)`, which saves the scale: zero is
zero in either unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onward_export.passes.linear_layer import LinearLayer, constant, drop_unused, follows_alone, register, store

__all__ = ["FoldNormalization"]

Float64 = NDArray[np.float64]
#: What may stand between the pixels and their scale.
PIXEL_OPERATORS = ("Cast", "Transpose", "Expand", "Tile", "Identity")
FLATTENING = ("Reshape", "Flatten")


@dataclass(frozen=True)
class FoldNormalization:
    """Fold the pixels' scale and shift into the first layer, or the scale alone.

    Precondition: an input of the graph goes, by casts, transposes and repeats alone, through a constant scale and a
    constant shift into one convolution, or flattened into one linear layer, and nothing else uses what is between.
    A repeat of one channel to several goes too, where the shift does: their weights are added up.
    """

    name: str = "normalisation into the first layer"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold it for each input that has one."""
        num_applied = 0
        for node in list(model.graph):
            site = _site(node)
            if site is not None:
                site.fold()
                num_applied += 1
        return num_applied

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Scales that could be folded."""
        return [node.name or "Mul" for node in model.graph if _site(node)]


@dataclass(frozen=True)
class _Site:
    """Mul, Add, perhaps a flattening, a linear layer.

    Args:
        mul: The scale.
        add: The shift.
        flattening: Between them and a linear layer.
        layer: The first.
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
        unscaled = store(shift.name or "shift", _array(shift) / _array(scale))
        self.add.replace_input_with(self.add.inputs.index(self.mul.outputs[0]), raw)
        self.add.replace_input_with(self.add.inputs.index(shift), unscaled)
        self.add.outputs[0].name = f"{self.add.outputs[0].name}_unscaled"
        graph.remove(self.mul, safe=True)
        drop_unused(graph, [shift, scale])
        register(graph, unscaled)
        self.layer.replace(self.layer.last, self._scaled_rows(), self.layer.offsets())

    def _fold_both(self) -> None:
        graph = _graph_of(self.mul)
        rows, source = self._scaled_rows(), _variable(self.mul)
        shifts = (self.layer.rows() * self.layer.per_input(self.shift)).sum((1, 2))
        tile, times = _repeat_before(source) if self.layer.groups == 1 else (None, 1)
        if tile is not None:
            source = tile.inputs[0] or source
            rows = rows.reshape(len(rows), times, -1, rows.shape[2]).sum(1)
        self.layer.replace(
            self.layer.last, rows, self.layer.offsets() + shifts, input=self._flattened(source, rows.shape[1])
        )
        dead = [item for item in (self.flattening, self.add, self.mul, tile) if item is not None]
        constants = [value for item in dead for value in item.inputs]
        for item in dead:
            if not any(value.uses() for value in item.outputs):
                graph.remove(item, safe=True)
        drop_unused(graph, constants)

    def _scaled_rows(self) -> Float64:
        scaled: Float64 = self.layer.rows() * self.layer.per_input(self.scale)
        return scaled

    def _flattened(self, source: ir.Value, num_inputs: int) -> ir.Value:
        """The raw pixels flattened as the normalised ones were, under another name: they are others."""
        if self.flattening is None:
            return source
        graph, name = _graph_of(self.flattening), f"{self.flattening.outputs[0].name}_unscaled"
        sizes = ir.Value(name=f"{name}_shape", const_value=ir.tensor(np.array([-1, num_inputs], np.int64)))
        node = ir.node("Reshape", [source, sizes], name=self.flattening.name)
        node.metadata_props.update(self.flattening.metadata_props)
        node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
        batch = self.flattening.outputs[0].shape
        node.outputs[0].shape = ir.Shape([batch[0] if batch is not None else None, num_inputs])
        register(graph, sizes)
        graph.insert_before(self.layer.first, node)
        return node.outputs[0]


def _site(mul: ir.Node) -> _Site | None:
    if mul.op_type != "Mul" or not _is_of_pixels(mul):
        return None
    add = follows_alone(mul.outputs[0])
    if add is None or add.op_type != "Add" or _sizes(add) is None or not _has_constant(add):
        return None
    first = follows_alone(add.outputs[0])
    flattening = first if first is not None and first.op_type in FLATTENING else None
    if flattening is not None:
        first = follows_alone(flattening.outputs[0])
    layer = LinearLayer.beginning_at(first) if first is not None else None
    if layer is None or layer.first.op_type == "ConvTranspose":
        return None
    source = flattening.outputs[0] if flattening is not None else add.outputs[0]
    if layer.first.inputs[0] is not source:
        return None
    scale, shift = (_lay(node, flattening, layer) for node in (mul, add))
    if scale is None or shift is None or not scale.all():
        return None
    return _Site(mul, add, flattening, layer, scale, shift)


def _lay(node: ir.Node, flattening: ir.Node | None, layer: LinearLayer) -> Float64 | None:
    """A scale or shift along the inputs of the layer; None where it is not one value an input."""
    array, sizes = constant(_constant_of(node)), _sizes(node)
    num_inputs = layer.rows().shape[1] * layer.groups
    if array is None or sizes is None:
        return None
    if layer.first.op_type == "Conv":
        if flattening is not None:
            return None
        sizes = (num_inputs, *(1,) * (len(sizes) - 1))  # one value a channel
    elif flattening is None or _width(flattening.outputs[0]) != math.prod(sizes) or num_inputs != math.prod(sizes):
        return None
    try:
        return np.broadcast_to(array, (1, *sizes)).reshape(-1)
    except ValueError:
        return None


def _array(value: ir.Value) -> Float64:
    array = constant(value)
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
    return sum(constant(value) is not None for value in values) == 1 and len(values) == 2


def _constant_of(node: ir.Node) -> ir.Value:
    return next(value for value in node.inputs if value is not None and constant(value) is not None)


def _variable(node: ir.Node) -> ir.Value:
    return next(value for value in node.inputs if value is not None and constant(value) is None)


def _sizes(node: ir.Node) -> tuple[int, ...] | None:
    """Of an image: all but the batch; None where one is not known, or the output is no batch."""
    shape = node.outputs[0].shape
    if shape is None or len(shape) < 2:
        return None
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return tuple(sizes) if len(sizes) == len(shape) - 1 else None


def _width(value: ir.Value) -> int | None:
    shape = value.shape
    return shape[1] if shape is not None and len(shape) == 2 and isinstance(shape[1], int) else None


def _repeat_before(value: ir.Value) -> tuple[ir.Node | None, int]:
    """The Tile that repeats channels and gives this value, and how often; (None, 1) where there is none."""
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
