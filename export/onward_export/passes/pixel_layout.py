"""Pixel layout: the transpose of pixels from `(height, width, channels)`, folded into the first linear layer.

A convolution over `channels` planes is one over a single plane whose rows hold the channels side by side: its kernel is
`channels` times as wide, and its horizontal stride and padding are as many times as large. A linear layer takes the
pixels in their own order once its weight's columns are in that order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onward_export.passes.linear_layer import LinearLayer, constant, drop_unused, follows_alone, register, store

__all__ = ["FoldPixelLayout"]

TO_PLANES = (0, 3, 1, 2)
AFFINE = ("Mul", "Add")
FLATTENING = ("Reshape", "Flatten")


@dataclass(frozen=True)
class FoldPixelLayout:
    """Fold the transpose into the first layer: pixels are cast where they lie.

    Precondition: an input of the graph, of known height, width and channels, is transposed to planes, cast, perhaps
    scaled and shifted by one number a channel, and goes into one convolution without groups, dilated columns or
    automatic padding, or flattened into one linear layer; nothing else uses what is between.
    """

    name: str = "pixel layout into the first layer"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Fold it for each input that has one."""
        sites = [site for node in model.graph if (site := _site(node))]
        for site in sites:
            site.fold()
        return len(sites)

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Transposes that could be folded."""
        return [node.name or "Transpose" for node in model.graph if _site(node)]


@dataclass(frozen=True)
class _Site:
    """Transpose, Cast, perhaps Mul and Add, perhaps a flattening, a linear layer.

    Args:
        transpose: Of the graph's input.
        elementwise: The cast, and what scales and shifts.
        flattening: Between them and a linear layer.
        layer: The first.
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
            self._lay_constant(graph, node, repeats=shape[-1] // channels)
            _rename(node.outputs[0], shape)
        if self.flattening is None:
            self._fold_into_convolution(graph)
        else:
            self._fold_into_product(graph, self.flattening)
        graph.remove(self.transpose, safe=True)

    def _view(self, graph: ir.Graph, shape: Sequence[int]) -> None:
        """The pixels as they lie, in another shape, in the place of the transposed ones."""
        pixels, planes = self.transpose.inputs[0], self.transpose.outputs[0]
        sizes = ir.Value(name=f"{planes.name}_sizes", const_value=ir.tensor(np.array([-1, *shape], np.int64)))
        view = ir.node("Reshape", [pixels, sizes], name=self.transpose.name)
        view.metadata_props.update(self.transpose.metadata_props)
        view.outputs[0].name, view.outputs[0].type, view.outputs[0].shape = planes.name, planes.type, planes.shape
        _rename(view.outputs[0], shape)
        register(graph, sizes)
        graph.insert_before(self.elementwise[0], view)
        self.elementwise[0].replace_input_with(0, view.outputs[0])

    def _lay_constant(self, graph: ir.Graph, node: ir.Node, repeats: int) -> None:
        """One number a channel, as often as there are pixels in a row."""
        for index, value in enumerate(node.inputs):
            array = constant(value) if value is not None else None
            if value is not None and array is not None and array.size > 1:
                laid = store(value.name or "constant", np.tile(array.reshape(-1), repeats))
                node.replace_input_with(index, laid)
                drop_unused(graph, [value])
                register(graph, laid)

    def _fold_into_convolution(self, graph: ir.Graph) -> None:
        conv, channels = self.layer.first, self.sizes[2]
        weight = constant(self.layer.weight)
        assert weight is not None
        kernel = (weight.shape[2], weight.shape[3] * channels)
        wide = store(self.layer.weight.name or "weight", weight.transpose(0, 2, 3, 1).reshape(len(weight), 1, *kernel))
        conv.replace_input_with(1, wide)
        drop_unused(graph, [self.layer.weight])
        register(graph, wide)
        conv.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", kernel)
        down, across = conv.attributes.get_ints("strides", (1, 1))
        conv.attributes["strides"] = ir.AttrInt64s("strides", (down, across * channels))
        if "pads" in conv.attributes:
            top, left, bottom, right = conv.attributes["pads"].as_ints()
            conv.attributes["pads"] = ir.AttrInt64s("pads", (top, left * channels, bottom, right * channels))

    def _fold_into_product(self, graph: ir.Graph, flattening: ir.Node) -> None:
        height, width, channels = self.sizes
        rows = self.layer.rows()
        planes = rows.reshape(len(rows), channels, height, width)
        interleaved = planes.transpose(0, 2, 3, 1).reshape(rows.shape)
        source = self.elementwise[-1].outputs[0]
        self.layer.replace(self.layer.last, interleaved, self.layer.offsets(), input=source)
        constants = list(flattening.inputs[1:])
        graph.remove(flattening, safe=True)
        drop_unused(graph, constants)


def _site(transpose: ir.Node) -> _Site | None:
    sizes = _sizes(transpose)
    if sizes is None:
        return None
    elementwise: list[ir.Node] = []
    node = follows_alone(transpose.outputs[0])
    while node is not None and (_is_affine(node, sizes[2]) if elementwise else node.op_type == "Cast"):
        elementwise.append(node)
        node = follows_alone(node.outputs[0])
    flattening = node if node is not None and node.op_type in FLATTENING else None
    if flattening is not None:
        node = follows_alone(flattening.outputs[0])
    layer = LinearLayer.beginning_at(node) if elementwise and node is not None else None
    source = flattening or (elementwise[-1] if elementwise else None)
    if layer is None or source is None or layer.first.inputs[0] is not source.outputs[0]:
        return None
    fits = _fits_convolution(layer, sizes) if flattening is None else _fits_product(layer, sizes)
    return _Site(transpose, tuple(elementwise), flattening, layer, sizes) if fits else None


def _sizes(transpose: ir.Node) -> tuple[int, int, int] | None:
    """Height, width and channels of pixels that go to planes; None where it is no such node, or they are unknown."""
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
    """Whether it scales or shifts by one number, or by one a channel."""
    arrays = [constant(value) for value in node.inputs if value is not None] if node.op_type in AFFINE else []
    given = [array for array in arrays if array is not None]
    return len(arrays) == 2 and len(given) == 1 and (given[0].size == 1 or given[0].shape[-3:] == (channels, 1, 1))


def _fits_convolution(layer: LinearLayer, sizes: tuple[int, int, int]) -> bool:
    conv, weight = layer.first, constant(layer.weight)
    return (
        conv.op_type == "Conv"
        and weight is not None
        and weight.ndim == 4
        and weight.shape[1] == sizes[2]
        and layer.groups == 1
        and conv.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and conv.attributes.get_ints("dilations", (1, 1))[1] == 1
    )


def _fits_product(layer: LinearLayer, sizes: tuple[int, int, int]) -> bool:
    return layer.first.op_type in ("Gemm", "MatMul") and layer.rows().shape[1] == math.prod(sizes)


def _rename(value: ir.Value, shape: Sequence[int]) -> None:
    """Another name: nobody is to compare it with PyTorch's planes."""
    value.name = f"{value.name}_interleaved"
    value.shape = ir.Shape([value.shape[0] if value.shape is not None else None, *shape])
