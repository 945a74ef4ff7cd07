"""Linear layer: a node of an ONNX graph whose weight can be read and replaced.

A folded constant keeps its unrounded float64 array beside the float32 value, so that two folds into one weight round
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from onward_export.passes.layer_weights import Float64, LayerWeights, Layout

__all__ = [
    "FLATTENING",
    "LinearLayer",
    "constant_value",
    "make_constant",
    "only_consumer",
    "register_constant",
    "remove_unused",
]

#: Key of `ir.Value.meta`: the float64 array that the stored float32 one was rounded from.
UNROUNDED = "onward.unrounded"
#: Operators that lay an image out as one row before a linear layer.
FLATTENING = ("Reshape", "Flatten")
LAYOUTS: dict[str, Layout] = {"Conv": "convolution", "ConvTranspose": "transposed convolution"}


@dataclass(frozen=True)
class LinearLayer:
    """Conv, ConvTranspose, Gemm, or MatMul of rank 2 with or without an Add.

    Args:
        first: The node that multiplies.
        last: The Add after a MatMul; else `first`.
        weight: float32, constant.
        bias: float32 `(outputs,)` or `(1, outputs)`, constant; None where there is none.
    """

    first: ir.Node
    last: ir.Node
    weight: ir.Value
    bias: ir.Value | None

    @classmethod
    def beginning_at(cls, node: ir.Node) -> LinearLayer | None:
        """The layer whose first node this is; None where it is no layer, or one that cannot be rewritten."""
        match node.op_type:
            case "Conv" | "ConvTranspose":
                return cls._of(node, node, node.inputs[2] if len(node.inputs) > 2 else None)
            case "Gemm" if _integer(node, "transA", 0) == 0 and _float(node, "alpha") == _float(node, "beta") == 1:
                return cls._of(node, node, node.inputs[2] if len(node.inputs) > 2 else None)
            case "MatMul" if _rank(node.inputs[0]) == 2:
                after = only_consumer(node.outputs[0])
                if after is not None and after.op_type == "Add":
                    other = after.inputs[1] if after.inputs[0] is node.outputs[0] else after.inputs[0]
                    if other is not None and constant_value(other) is not None:
                        return cls._of(node, after, other) or cls._of(node, node, None)
                return cls._of(node, node, None)
        return None

    @classmethod
    def ending_at(cls, node: ir.Node) -> LinearLayer | None:
        """The layer whose last node this is."""
        candidates = [node]
        if node.op_type == "Add":
            producers = [value.producer() for value in node.inputs if value is not None]
            candidates = [item for item in producers if item is not None and item.op_type == "MatMul"]
        layers = [layer for item in candidates if (layer := cls.beginning_at(item)) and layer.last is node]
        return layers[0] if layers else None

    @classmethod
    def _of(cls, first: ir.Node, last: ir.Node, bias: ir.Value | None) -> LinearLayer | None:
        weight = first.inputs[1]
        if weight is None or first.inputs[0] is None:
            return None
        stored = constant_value(weight)
        if stored is None or (stored.ndim != 2 and first.op_type not in LAYOUTS):
            return None
        if bias is not None:
            offset, num_outputs = constant_value(bias), cls(first, last, weight, None).weights().num_outputs
            if offset is None or offset.shape not in ((num_outputs,), (1, num_outputs)):
                return None
        return cls(first, last, weight, bias)

    @property
    def is_padded(self) -> bool:
        """Whether it sees zeros around its input. (A transposed convolution drops terms at its borders.)"""
        if self.first.op_type not in LAYOUTS:
            return False
        pads = self.first.attributes.get("pads")
        automatic = self.first.attributes.get_string("auto_pad", "NOTSET")
        return (
            self.first.op_type == "ConvTranspose"
            or automatic not in ("NOTSET", "VALID")
            or (automatic == "NOTSET" and pads is not None and any(pads.as_ints()))
        )

    def weights(self) -> LayerWeights:
        """Its weight and its bias, unrounded."""
        stored = constant_value(self.weight)
        assert stored is not None
        bias = None if self.bias is None else constant_value(self.bias)
        if self._is_transposed:
            stored = stored.T
        layout = LAYOUTS.get(self.first.op_type, "matrix")
        return LayerWeights.from_stored(stored, bias, layout, _integer(self.first, "group", 1))

    def replace(self, until: ir.Node, weights: LayerWeights, *, input: ir.Value | None = None) -> ir.Node:
        """Replace the layer, and the nodes after it up to `until`, by one node with another weight and bias.

        Args:
            until: The last node that goes; the new node's output takes the name of its output.
            weights: The new weight and bias; they are rounded to float32 here.
            input: Another first input.
        """
        graph = self.first.graph
        assert isinstance(graph, ir.Graph)
        nodes = list(dict.fromkeys([self.first, self.last, until]))
        used = [value for item in nodes for value in item.inputs]
        stored = np.ascontiguousarray(weights.stored().T) if self._is_transposed else weights.stored()
        new = [make_constant(self.weight.name or "weight", stored)]
        if self.bias is not None or weights.bias.any():
            name = self.bias.name if self.bias is not None else None
            name = name or f"{(self.weight.name or '').removesuffix('.weight')}.bias"
            new.append(make_constant(name, weights.bias))
        op_type = "Gemm" if self.first.op_type == "MatMul" else self.first.op_type
        node = ir.node(
            op_type,
            [self.first.inputs[0] if input is None else input, *new],
            attributes=dict(self.first.attributes),
            name=self.first.name,
            metadata_props={key: text for item in nodes for key, text in item.metadata_props.items()},
        )
        ir.convenience.replace_nodes_and_values(graph, until, nodes, [node], until.outputs[:1], node.outputs)
        remove_unused(graph, used)
        for value in new:
            register_constant(graph, value)
        return node

    @property
    def _is_transposed(self) -> bool:
        """Whether a matrix is stored as `(inputs, outputs)`."""
        return self.first.op_type not in LAYOUTS and not _integer(self.first, "transB", 0)


def constant_value(value: ir.Value) -> Float64 | None:
    """A float32 initializer in float64, unrounded where a fold made it; None where the value is no such initializer."""
    if not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    if value.const_value.dtype != ir.DataType.FLOAT:
        return None
    kept: Float64 | None = value.meta.get(UNROUNDED)
    return value.const_value.numpy().astype(np.float64) if kept is None else kept


def make_constant(name: str, array: Float64) -> ir.Value:
    """A value that holds the array rounded to float32, and beside it the unrounded array for later folds."""
    value = ir.Value(name=name, const_value=ir.tensor(array.astype(np.float32), name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
    value.meta[UNROUNDED] = array
    return value


def register_constant(graph: ir.Graph, value: ir.Value) -> None:
    """Make a value an initializer of the graph, under another name where its own is taken."""
    while value.name in graph.initializers:
        value.name = f"{value.name}_folded"
    graph.register_initializer(value)


def remove_unused(graph: ir.Graph, values: Sequence[ir.Value | None]) -> None:
    """Remove those initializers among the values that nothing uses any more."""
    for value in values:
        if value is not None and value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value; None where several do, or the value is an output of the graph."""
    consumers = [node for node, _ in value.uses()]
    return consumers[0] if len(consumers) == 1 and not value.is_graph_output() else None


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes.get_int(name, default)


def _float(node: ir.Node, name: str) -> float:
    return node.attributes.get_float(name, 1.0)


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)
