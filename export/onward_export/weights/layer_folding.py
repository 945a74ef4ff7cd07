"""Layer folding: the weights and biases that a file stores where operators were folded into a linear layer.

They are computed from the exported program and the checkpoint alone, not from the file: the formulas are those of
`onward_export.passes.layer_weights`, and PyTorch's program says what precedes and follows each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import fx
from torch.export import ExportedProgram

from onward_export.passes.layer_weights import Float64, LayerWeights, Layout, scale_and_shift_of_batch_norm
from onward_export.weights.folded_value import FoldedValue, ulps_of

__all__ = ["folded_values"]

#: How far a float64 sum may move when its terms are added in another order, as a share of the terms.
SUM_ERROR = 1e-12
CONVOLUTIONS = tuple(f"aten.conv{rank}d.{overload}" for rank in (1, 2, 3) for overload in ("default", "padding"))
TRANSPOSED = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
LINEAR = "aten.linear.default"
#: Products whose weight is `(inputs, outputs)`, with the bias in an operator of its own.
PRODUCTS = ("aten.matmul.default", "aten.mm.default")
#: Operators that change no value in eval mode.
TRANSPARENT = (
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.clone.default",
    "aten.contiguous.default",
    "aten.alias.default",
    "aten.detach.default",
)
FLATTENING = ("aten.flatten.using_ints", "aten.view.default", "aten.reshape.default")
CASTS = ("aten.to.dtype", "aten._to_copy.default")


def folded_values(program: ExportedProgram, values: Mapping[str, NDArray[Any]]) -> Iterator[FoldedValue]:
    """Every folded value that a file may hold: batch norm, normalisation and pixel layout, alone and together.

    Args:
        program: Its graph says which operators precede and follow a layer.
        values: Node name -> its value, of the checkpoint or computed from the checkpoint alone.
    """
    names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    normalizations = [found for node in program.graph.nodes if (found := _normalization(node, values))]
    for item in normalizations:
        yield from item.folded_values()
    for node in program.graph.nodes:
        layer = _layer(node, values, names)
        if layer is None:
            continue
        starts = [layer, *(folded for item in normalizations for folded in _with_what_precedes(layer, item))]
        for start in starts:
            for folded in _with_batch_norms(start, values):
                if folded.folded:
                    yield from folded.folded_values()


@dataclass(frozen=True)
class _Layer:
    """A linear layer of the program, with what was folded into it so far.

    Args:
        node: The multiplication.
        last: The last node that the layer stands for.
        name: The name of its weight.
        weights: Its weight and its bias.
        bias_terms: `(outputs,)`, the absolute values that were added up to the bias.
        folded: What was folded into it.
    """

    node: fx.Node
    last: fx.Node
    name: str
    weights: LayerWeights
    bias_terms: Float64
    folded: tuple[str, ...] = ()

    def folded_values(self) -> Iterator[FoldedValue]:
        """Its weight and its bias as a file would store them."""
        what = " and ".join(self.folded)
        weight = self.weights.stored()
        yield _folded(f"{what} into {self.name}", weight, np.abs(weight))
        yield _folded(f"{what} into the bias beside {self.name}", self.weights.bias, self.bias_terms)


def _layer(node: fx.Node, values: Mapping[str, NDArray[Any]], names: Mapping[str, str]) -> _Layer | None:
    target = str(node.target)
    layout = _layout_of(target)
    weight = _value(node.args[1], values) if layout is not None else None
    if layout is None or weight is None or (layout == "matrix" and weight.ndim != 2):
        return None
    last, bias = node, _value(node.args[2], values) if len(node.args) > 2 else None
    if target in PRODUCTS:
        weight = weight.T
        last, bias = _with_sum(node, len(weight), values)
    weights = LayerWeights.from_stored(weight, bias, layout, int(str(node.args[6])) if len(node.args) > 6 else 1)
    if weights.bias.shape != (weights.num_outputs,):
        return None
    stored = None if target in PRODUCTS else node.args[1]
    name = names.get(getattr(stored, "name", ""), str(stored or node))
    return _Layer(node, last, name, weights, np.abs(weights.bias))


def _layout_of(target: str) -> Layout | None:
    if target in CONVOLUTIONS:
        return "convolution"
    if target in TRANSPOSED:
        return "transposed convolution"
    return "matrix" if target in (LINEAR, *PRODUCTS) else None


def _with_sum(product: fx.Node, num_outputs: int, values: Mapping[str, NDArray[Any]]) -> tuple[fx.Node, Float64 | None]:
    """The last node of a product and its bias: the sum after it, where that adds one constant for each output."""
    after = _only_user(product)
    if after is not None and str(after.target) == "aten.add.Tensor":
        added = next((value for item in after.args if (value := _value(item, values)) is not None), None)
        if added is not None and added.shape in ((num_outputs,), (1, num_outputs)):
            return after, added
    return product, None


def _with_batch_norms(layer: _Layer, values: Mapping[str, NDArray[Any]]) -> Iterator[_Layer]:
    """The layer, and the layer with one, two, … of the batch norms that follow it."""
    yield layer
    node = _only_user(layer.last)
    if node is None or str(node.target) != "aten.batch_norm.default":
        return
    gamma, beta, mean, variance = (_value(item, values) for item in node.args[1:5])
    if mean is None or variance is None or mean.shape != layer.weights.bias.shape:
        return
    gamma = np.ones_like(mean) if gamma is None else gamma
    beta = np.zeros_like(mean) if beta is None else beta
    scale, shift = scale_and_shift_of_batch_norm(gamma, beta, mean, variance, float(str(node.args[7])))
    folded = replace(
        layer,
        last=node,
        weights=layer.weights.with_output(scale, shift),
        bias_terms=(layer.bias_terms + np.abs(mean)) * np.abs(scale) + np.abs(beta),
        folded=(*layer.folded, "batch norm"),
    )
    yield from _with_batch_norms(folded, values)


@dataclass(frozen=True)
class _Normalization:
    """A constant scale and a constant shift, such as those of the pixels.

    Args:
        add: The node that gives the normalised image.
        scale: The scale as it is stored.
        shift: The shift as it is stored.
        sizes: `(channels, height, width)` of the normalised value, where that is an image.
        repeat: How often one channel was repeated before.
    """

    add: fx.Node
    scale: Float64
    shift: Float64
    sizes: tuple[int, ...]
    repeat: int

    def folded_values(self) -> Iterator[FoldedValue]:
        """What a file may store in place of the scale and the shift, whatever layer follows."""
        quotient = self.shift / self.scale
        yield _folded("scale of the normalisation into its shift", quotient, np.abs(quotient))
        if len(self.sizes) != 3 or {self.scale.size, self.shift.size} - {1, self.sizes[0]}:
            return  # not one number for each channel of an image: attention scales and shifts its scores, too
        stored = {"scale": self.scale, "shift": self.shift, "scale of the normalisation into its shift": quotient}
        for what, array in stored.items():
            for repeats in (self.sizes[-1], math.prod(self.sizes[1:])):  # pixels of a row, and of an image
                repeated = np.tile(array.reshape(-1), repeats)
                yield _folded(f"layout of the pixels into the {what}", repeated, np.abs(repeated))


def _normalization(mul: fx.Node, values: Mapping[str, NDArray[Any]]) -> _Normalization | None:
    """The normalisation that begins at a node; None where there is none. It may scale another value than the pixels."""
    add = _only_user(mul) if str(mul.target) == "aten.mul.Tensor" else None
    if add is None or str(add.target) != "aten.add.Tensor" or add.kwargs:
        return None
    scale, shift = _constant_of(mul, values), _constant_of(add, values)
    if scale is None or shift is None or not scale.all():
        return None
    sizes = tuple(size for size in add.meta["val"].shape[1:] if isinstance(size, int))
    if len(sizes) != add.meta["val"].ndim - 1:
        return None
    return _Normalization(add, scale, shift, sizes, _repeat_before(mul))


def _with_what_precedes(layer: _Layer, item: _Normalization) -> Iterator[_Layer]:
    """The layer with the normalisation, the pixel layout, and both, if the normalised image is its input."""
    source, is_flattened = _source_of(layer.node)
    if source is not item.add or layer.weights.layout == "transposed convolution":
        return
    normalized = list(_with_normalization(layer, item, is_flattened))
    yield from normalized
    if _takes_planes(layer.weights, item.sizes):
        yield from (_with_pixel_layout(each, item.sizes) for each in (layer, *normalized))


def _with_normalization(layer: _Layer, item: _Normalization, is_flattened: bool) -> Iterator[_Layer]:
    """The layer with the normalisation's scale; with its shift too; with the repeat of a channel too."""
    num_inputs = layer.weights.num_inputs
    sizes = item.sizes if is_flattened else (num_inputs, *(1,) * (len(item.sizes) - 1))
    try:
        scale, shift = (np.broadcast_to(array, sizes).reshape(-1) for array in (item.scale, item.shift))
    except ValueError:
        return
    if len(scale) != num_inputs:
        return
    yield replace(layer, weights=layer.weights.with_input(scale), folded=("scale of the normalisation",))
    both = replace(
        layer,
        weights=layer.weights.with_input(scale, shift),
        bias_terms=layer.bias_terms + np.abs(layer.weights.shift_terms(shift)).sum((1, 2)),
        folded=("normalisation",),
    )
    yield both
    if item.repeat > 1 and layer.weights.groups == 1:
        yield replace(both, weights=both.weights.with_repeat(item.repeat), folded=("normalisation and repeat",))


def _takes_planes(weights: LayerWeights, sizes: tuple[int, ...]) -> bool:
    """Whether the layer takes all planes of an image `(channels, height, width)`, so that the layout can be folded."""
    if len(sizes) != 3 or weights.groups != 1:
        return False
    return len(weights.kernel) == 2 if weights.kernel else weights.num_inputs % math.prod(sizes[1:]) == 0


def _with_pixel_layout(layer: _Layer, sizes: tuple[int, ...]) -> _Layer:
    _, height, width = sizes
    weights = layer.weights.with_interleaved_pixels((height, width))
    return replace(layer, weights=weights, folded=(*layer.folded, "layout of the pixels"))


def _repeat_before(mul: fx.Node) -> int:
    """How often one channel of the scaled value was repeated."""
    for node in mul.all_input_nodes:
        source: Any = node
        while isinstance(source, fx.Node) and str(source.target) in TRANSPARENT + CASTS:
            source = source.args[0]
        if isinstance(source, fx.Node) and str(source.target) == "aten.repeat.default":
            times: Any = source.args[1]
            return int(times[1]) if len(times) > 1 and all(n == 1 for i, n in enumerate(times) if i != 1) else 1
    return 1


def _constant_of(node: fx.Node, values: Mapping[str, NDArray[Any]]) -> Float64 | None:
    for item in node.args:
        if isinstance(item, int | float):
            return np.array(np.float32(item), np.float64)  # as a graph stores it
        if (array := _value(item, values)) is not None:
            return array
    return None


def _source_of(node: fx.Node) -> tuple[fx.Node | None, bool]:
    """What a layer's input comes from, skipping operators that change no value; and whether it was flattened."""
    source, is_flattened = node.args[0], False
    while isinstance(source, fx.Node) and str(source.target) in TRANSPARENT + FLATTENING + CASTS:
        is_flattened = is_flattened or str(source.target) in FLATTENING
        source = source.args[0]
    return source if isinstance(source, fx.Node) else None, is_flattened


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses this one's value, skipping operators that change no value."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if str(node.target) not in TRANSPARENT:
            return node
    return None


def _value(node: Any, values: Mapping[str, NDArray[Any]]) -> Float64 | None:
    array = values.get(getattr(node, "name", ""))
    return None if array is None else array.astype(np.float64)


def _folded(what: str, value: Float64, terms: Float64) -> FoldedValue:
    """A folded value that an artifact stores to one unit in the last place. `terms` were added up to it."""
    return FoldedValue(what, value, ulps_of(value) + SUM_ERROR * terms)
