"""Pixel layout: the transpose of pixels from `(height, width, channels)` to planes, folded into the first layer.

A convolution over `channels` planes equals one over a single plane whose rows hold the channels side by side. Its
kernel, horizontal stride and horizontal padding become `channels` times as wide. A linear layer takes the pixels in
their own order once the columns of its weight are in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onward_export.passes.linear_layer import (
    FLATTENING,
    LinearLayer,
    constant_value,
    make_constant,
    only_consumer,
    register_constant,
    remove_unused,
)

__all__ = ["FoldPixelLayout"]

TO_PLANES = (0, 3, 1, 2)
AFFINE = ("Mul", "Add")


@dataclass(frozen=True)
class FoldPixelLayout:
    """Fold the transpose into the first layer: pixels are used in the order in which they are given.

    Precondition: an input of the graph with known height, width and channels is transposed to planes, cast, perhaps
    scaled and shifted by one number for each channel, and goes into one convolution without groups, dilated columns or
    automatic padding, or flattened into one linear layer. Nothing else uses the values between.
    """

    name: str = "pixel layout into the first layer"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold it for each input that has one."""
        matches = [match for node in model.graph if (match := _match(node))]
        for match in matches:
            match.fold()
        return len(matches)

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Transposes that could be folded."""
        return [node.name or "Transpose" for node in model.graph if _match(node)]


@dataclass(frozen=True)
class _Match:
    """Transpose, Cast, perhaps Mul and Add, perhaps a Reshape or Flatten, a linear layer.

    Args:
        transpose: The transpose of the graph's input.
        elementwise: The cast, and the nodes that scale and shift.
        flattening: The Reshape or Flatten before a layer with a matrix.
        layer: The first layer.
        sizes: Height, width, channels.
    """

    transpose: ir.Node
    elementwise: tuple[ir.Node, ...]
    flattening: ir.Node | None
    layer: LinearLayer
    sizes: tuple[int, int, int]

    def fold(self) -> None:
        height, width, channels = self.sizes
        graph = self.transpose.graph
        assert isinstance(graph, ir.Graph)
        shape = [1, height, width * channels] if self.flattening is None else [math.prod(self.sizes)]
        self._view(graph, shape)
        for node in self.elementwise:
            self._repeat_constant(graph, node, repeats=shape[-1] // channels)
            _rename(node.outputs[0], shape)
        if self.flattening is None:
            self._fold_into_convolution(graph)
        else:
            self._fold_into_product(graph, self.flattening)
        graph.remove(self.transpose, safe=True)

    def _view(self, graph: ir.Graph, shape: Sequence[int]) -> None:
        """Put the pixels in their own order, in another shape, in the place of the transposed ones."""
        pixels, planes = self.transpose.inputs[0], self.transpose.outputs[0]
        sizes = ir.Value(name=f"{planes.name}_sizes", const_value=ir.tensor(np.array([-1, *shape], np.int64)))
        view = ir.node("Reshape", [pixels, sizes], name=self.transpose.name)
        view.metadata_props.update(self.transpose.metadata_props)
        view.outputs[0].name, view.outputs[0].type, view.outputs[0].shape = planes.name, planes.type, planes.shape
        _rename(view.outputs[0], shape)
        register_constant(graph, sizes)
        graph.insert_before(self.elementwise[0], view)
        self.elementwise[0].replace_input_with(0, view.outputs[0])

    def _repeat_constant(self, graph: ir.Graph, node: ir.Node, repeats: int) -> None:
        """Repeat one number for each channel as often as there are pixels in a row."""
        for index, value in enumerate(node.inputs):
            array = constant_value(value) if value is not None else None
            if value is not None and array is not None and array.size > 1:
                repeated = make_constant(value.name or "constant", np.tile(array.reshape(-1), repeats))
                node.replace_input_with(index, repeated)
                remove_unused(graph, [value])
                register_constant(graph, repeated)

    def _fold_into_convolution(self, graph: ir.Graph) -> None:
        conv, channels = self.layer.first, self.sizes[2]
        wide = self.layer.weights().with_interleaved_pixels(self.sizes[:2])
        weight = make_constant(self.layer.weight.name or "weight", wide.stored())
        conv.replace_input_with(1, weight)
        remove_unused(graph, [self.layer.weight])
        register_constant(graph, weight)
        conv.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", wide.kernel)
        down, across = conv.attributes.get_ints("strides", (1, 1))
        conv.attributes["strides"] = ir.AttrInt64s("strides", (down, across * channels))
        if "pads" in conv.attributes:
            top, left, bottom, right = conv.attributes["pads"].as_ints()
            conv.attributes["pads"] = ir.AttrInt64s("pads", (top, left * channels, bottom, right * channels))

    def _fold_into_product(self, graph: ir.Graph, flattening: ir.Node) -> None:
        source = self.elementwise[-1].outputs[0]
        self.layer.replace(self.layer.last, self.layer.weights().with_interleaved_pixels(self.sizes[:2]), input=source)
        constants = list(flattening.inputs[1:])
        graph.remove(flattening, safe=True)
        remove_unused(graph, constants)


def _match(transpose: ir.Node) -> _Match | None:
    sizes = _sizes(transpose)
    if sizes is None:
        return None
    elementwise: list[ir.Node] = []
    node = only_consumer(transpose.outputs[0])
    while node is not None and (_is_affine(node, sizes[2]) if elementwise else node.op_type == "Cast"):
        elementwise.append(node)
        node = only_consumer(node.outputs[0])
    flattening = node if node is not None and node.op_type in FLATTENING else None
    if flattening is not None:
        node = only_consumer(flattening.outputs[0])
    layer = LinearLayer.beginning_at(node) if elementwise and node is not None else None
    source = flattening or (elementwise[-1] if elementwise else None)
    if layer is None or source is None or layer.first.inputs[0] is not source.outputs[0]:
        return None
    fits = _fits_convolution(layer, sizes) if flattening is None else _fits_product(layer, sizes)
    return _Match(transpose, tuple(elementwise), flattening, layer, sizes) if fits else None


def _sizes(transpose: ir.Node) -> tuple[int, int, int] | None:
    """Height, width and channels, if this node transposes pixels of known sizes to planes; else None."""
    pixels = transpose.inputs[0] if transpose.op_type == "Transpose" else None
    if pixels is None or not pixels.is_graph_input() or pixels.shape is None:
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != TO_PLANES:
        return None
    match list(pixels.shape)[1:]:
        case [int(height), int(width), int(channels)]:
            return height, width, channels
    return None


def _is_affine(node: ir.Node, channels: int) -> bool:
    """Whether it scales or shifts by one number, or by one for each channel."""
    arrays = [constant_value(value) for value in node.inputs if value is not None] if node.op_type in AFFINE else []
    given = [array for array in arrays if array is not None]
    return len(arrays) == 2 and len(given) == 1 and (given[0].size == 1 or given[0].shape[-3:] == (channels, 1, 1))


def _fits_convolution(layer: LinearLayer, sizes: tuple[int, int, int]) -> bool:
    conv, weight = layer.first, constant_value(layer.weight)
    return (
        conv.op_type == "Conv"
        and weight is not None
        and weight.ndim == 4
        and weight.shape[1] == sizes[2]
        and layer.weights().groups == 1
        and conv.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and conv.attributes.get_ints("dilations", (1, 1))[1] == 1
    )


def _fits_product(layer: LinearLayer, sizes: tuple[int, int, int]) -> bool:
    return layer.first.op_type in ("Gemm", "MatMul") and layer.weights().num_inputs == math.prod(sizes)


def _rename(value: ir.Value, shape: Sequence[int]) -> None:
    """Give another name, so that nobody compares the value with PyTorch's planes."""
    value.name = f"{value.name}_interleaved"
    value.shape = ir.Shape([value.shape[0] if value.shape is not None else None, *shape])
