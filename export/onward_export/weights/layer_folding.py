"""Folds: what a weight and a bias become when the operators around a linear layer are folded into it.

Computed in float64 from the exported program and the checkpoint, without a look at how the file was made.
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

__all__ = ["Fold", "folds_of"]

Float64 = NDArray[np.float64]
#: The order of a sum in float64, as a share of its terms.
SUM_ERROR = 1e-12
CONVOLUTIONS = tuple(f"aten.conv{rank}d.{overload}" for rank in (1, 2, 3) for overload in ("default", "padding"))
TRANSPOSED = ("aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input")
PRODUCTS = ("aten.linear.default", "aten.matmul.default", "aten.mm.default")
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


@dataclass(frozen=True)
class Fold:
    """One value that an artifact may store in place of the checkpoint's.

    Args:
        what: What was folded into what.
        value: Recomputed in float64.
        terms: The absolute values that were added up to it.
    """

    what: str
    value: Float64
    terms: Float64

    def explains(self, array: NDArray[Any]) -> bool:
        """Whether an array is this value, or its transpose, to one unit in the last place."""
        if array.shape == self.value.shape and self._is_close(array):
            return True
        return array.ndim == 2 and array.T.shape == self.value.shape and self._is_close(array.T)

    def _is_close(self, array: NDArray[Any]) -> bool:
        ulp = np.spacing(np.abs(self.value).astype(np.float32)).astype(np.float64)
        return bool((np.abs(array.astype(np.float64) - self.value) <= ulp + SUM_ERROR * self.terms).all())


@dataclass(frozen=True)
class _Layer:
    """A linear layer with what was folded into it so far.

    Args:
        node: The multiplication, in the program.
        last: The last node that it stands for.
        name: Of its weight.
        rows: The weight as `(outputs, inputs of a group, kernel)`.
        bias: `(outputs,)`.
        terms: Absolute values that were added up to the bias.
        groups: Of a convolution.
        shape: Of the weight.
        folded: What was folded into it.
    """

    node: fx.Node
    last: fx.Node
    name: str
    rows: Float64
    bias: Float64
    terms: Float64
    groups: int
    shape: tuple[int, ...]
    folded: tuple[str, ...] = ()

    def folds(self) -> Iterator[Fold]:
        """Its weight and its bias as a file would store them."""
        what = " and ".join(self.folded)
        weight = self._in_layout()
        yield Fold(f"{what} into {self.name}", weight, np.abs(weight))
        yield Fold(f"{what} into the bias beside {self.name}", self.bias, self.terms)

    def _in_layout(self) -> Float64:
        if str(self.node.target) in TRANSPOSED:
            grouped = self.rows.reshape(self.groups, -1, *self.rows.shape[1:]).swapaxes(1, 2)
            return grouped.reshape(self.shape)
        if len(self.shape) == 2:
            return self.rows[:, :, 0]
        return self.rows.reshape(len(self.rows), -1, *self.shape[2:])


@dataclass(frozen=True)
class _Normalization:
    """A scale and a shift, such as those of the pixels.

    Args:
        add: The node that gives the normalised image.
        scale: As it is stored.
        shift: As it is stored.
        sizes: `(channels, height, width)` of what they give, where that is an image.
        repeat: How often one channel was repeated.
    """

    add: fx.Node
    scale: Float64
    shift: Float64
    sizes: tuple[int, ...]
    repeat: int

    def folds(self) -> Iterator[Fold]:
        """What a file may store in the place of its scale and its shift, without a look at any layer."""
        quotient = self.shift / self.scale
        yield Fold("scale of the normalisation into its shift", quotient, np.abs(quotient))
        if len(self.sizes) != 3 or {self.scale.size, self.shift.size} - {1, self.sizes[0]}:
            return  # of no image's channels: attention's scores are scaled and shifted, too
        stored = {"scale": self.scale, "shift": self.shift, "scale of the normalisation into its shift": quotient}
        for what, array in stored.items():
            for repeats in (self.sizes[-1], math.prod(self.sizes[1:])):  # pixels in a row, and in an image
                laid = np.tile(array.reshape(-1), repeats)
                yield Fold(f"layout of the pixels into the {what}", laid, np.abs(laid))


def folds_of(program: ExportedProgram, values: Mapping[str, NDArray[Any]]) -> Iterator[Fold]:
    """Every fold that a file may hold: batch norm into the layer before, normalisation into the first, or both.

    Args:
        program: Says what follows what.
        values: Node name -> what it is in the checkpoint, or computed from the checkpoint alone.
    """
    names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers
    normalizations = [found for node in program.graph.nodes if (found := _normalization(node, values))]
    for item in normalizations:
        yield from item.folds()
    for node in program.graph.nodes:
        layer = _layer(node, values, names)
        if layer is None:
            continue
        begun = [layer, *(after for item in normalizations for after in _begun(layer, item))]
        for start in begun:
            for folded in _with_norms(start, values):
                if folded.folded:
                    yield from folded.folds()


def _layer(node: fx.Node, values: Mapping[str, NDArray[Any]], names: Mapping[str, str]) -> _Layer | None:
    target = str(node.target)
    weight = _value(node.args[1], values) if target in CONVOLUTIONS + TRANSPOSED + PRODUCTS else None
    if weight is None or (target in PRODUCTS and weight.ndim != 2):
        return None
    bias = _value(node.args[2], values) if len(node.args) > 2 else None
    groups = int(str(node.args[6])) if len(node.args) > 6 else 1
    last, rows = node, weight.reshape(*weight.shape[:2], -1)
    if target in PRODUCTS[1:]:
        rows = weight.T[:, :, None]
        after = _only_user(node)
        if after is not None and str(after.target) == "aten.add.Tensor":
            added = next((v for item in after.args if (v := _value(item, values)) is not None), None)
            if added is not None and added.shape in ((len(rows),), (1, len(rows))):
                last, bias = after, added.reshape(-1)
    elif target in TRANSPOSED:
        grouped = weight.reshape(groups, -1, weight.shape[1], math.prod(weight.shape[2:]))
        rows = grouped.swapaxes(1, 2).reshape(-1, *grouped.shape[1:2], grouped.shape[3])
    if bias is not None and bias.shape != (len(rows),):
        return None
    offset = np.zeros(len(rows)) if bias is None else bias
    stored = node.args[1] if target not in PRODUCTS[1:] else None
    name = names.get(getattr(stored, "name", ""), str(stored or node))
    shape = weight.shape if target not in PRODUCTS[1:] else weight.T.shape
    return _Layer(node, last, name, rows, offset, np.abs(offset), groups, shape)


def _with_norms(layer: _Layer, values: Mapping[str, NDArray[Any]]) -> Iterator[_Layer]:
    """The layer, and with it each batch norm that follows."""
    yield layer
    node = _only_user(layer.last)
    if node is None or str(node.target) != "aten.batch_norm.default":
        return
    gamma, beta, mean, variance = (_value(item, values) for item in node.args[1:5])
    if mean is None or variance is None or mean.shape != layer.bias.shape:
        return
    factor = (1.0 if gamma is None else gamma) / np.sqrt(variance + float(str(node.args[7])))
    shift = np.zeros_like(mean) if beta is None else beta
    folded = replace(
        layer,
        last=node,
        rows=layer.rows * factor[:, None, None],
        bias=(layer.bias - mean) * factor + shift,
        terms=(layer.terms + np.abs(mean)) * np.abs(factor) + np.abs(shift),
        folded=(*layer.folded, "batch norm"),
    )
    yield from _with_norms(folded, values)


def _begun(layer: _Layer, item: _Normalization) -> Iterator[_Layer]:
    """The layer with what comes before it, if the normalised image is its input: the normalisation, the layout."""
    source, is_flat = _before(layer.node)
    if source is not item.add or str(layer.node.target) in TRANSPOSED:
        return
    normalized = list(_normalized(layer, item, is_flat))
    yield from normalized
    if layer.groups == 1 and len(item.sizes) == 3:
        yield from (_interleaved(each, item.sizes) for each in (layer, *normalized))


def _interleaved(layer: _Layer, sizes: tuple[int, ...]) -> _Layer:
    """The layer as it takes pixels whose channels lie side by side: of a convolution, as one plane of wider rows."""
    num_outputs, *kernel = len(layer.rows), *layer.shape[2:]
    planes = layer.rows.reshape(num_outputs, -1, *(kernel or sizes[1:]))
    rows = np.moveaxis(planes, 1, -1).reshape(num_outputs, -1, 1)
    shape = layer.shape
    if kernel:
        rows, shape = rows.swapaxes(1, 2), (num_outputs, 1, *kernel[:-1], kernel[-1] * planes.shape[1])
    return replace(layer, rows=rows, shape=shape, folded=(*layer.folded, "layout of the pixels"))


def _normalized(layer: _Layer, item: _Normalization, is_flat: bool) -> Iterator[_Layer]:
    """The layer with the normalisation's scale, and with its shift too."""
    num_inputs = layer.rows.shape[1] * layer.groups
    sizes = item.sizes if is_flat else (num_inputs, *(1,) * (len(item.sizes) - 1))
    try:
        scale, shift = (np.broadcast_to(array, sizes).reshape(-1) for array in (item.scale, item.shift))
    except ValueError:
        return
    if len(scale) != num_inputs:
        return
    along_scale, along_shift = (
        np.repeat(array.reshape(layer.groups, -1), len(layer.rows) // layer.groups, axis=0)[:, :, None]
        for array in (scale, shift)
    )
    scaled = replace(layer, rows=layer.rows * along_scale, folded=("scale of the normalisation",))
    yield scaled
    moved = layer.rows * along_shift
    both = replace(
        scaled,
        bias=layer.bias + moved.sum((1, 2)),
        terms=layer.terms + np.abs(moved).sum((1, 2)),
        folded=("normalisation",),
    )
    yield both
    if item.repeat > 1 and layer.groups == 1:
        rows = both.rows.reshape(len(both.rows), item.repeat, -1, both.rows.shape[2]).sum(1)
        shape = (layer.shape[0], rows.shape[1], *layer.shape[2:])
        yield replace(both, rows=rows, shape=shape, folded=("normalisation and repeat",))


def _normalization(mul: fx.Node, values: Mapping[str, NDArray[Any]]) -> _Normalization | None:
    """A constant scale and a constant shift, one after the other; whether of pixels, values decide."""
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


def _repeat_before(mul: fx.Node) -> int:
    """How often one channel of what is scaled was repeated."""
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


def _before(node: fx.Node) -> tuple[fx.Node | None, bool]:
    """What a layer's input comes from, past operators that change no value; and whether it was flattened."""
    source, is_flat = node.args[0], False
    while isinstance(source, fx.Node) and str(source.target) in TRANSPARENT + FLATTENING:
        is_flat = is_flat or str(source.target) in FLATTENING
        source = source.args[0]
    return source if isinstance(source, fx.Node) else None, is_flat


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one node that uses this one's value, past operators that change no value."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if str(node.target) not in TRANSPARENT:
            return node
    return None


def _value(node: Any, values: Mapping[str, NDArray[Any]]) -> Float64 | None:
    array = values.get(getattr(node, "name", ""))
    return None if array is None else array.astype(np.float64)
