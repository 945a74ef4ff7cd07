"""Linear layer: a node that is linear in its first input, with a weight that can be read and replaced.

Weights are computed with in float64, as *rows*: `(outputs, inputs of a group, kernel)`, whatever the operator's own
layout. What was folded is kept unrounded beside the value, so that two folds into one weight round once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["LinearLayer", "constant", "follows_alone", "store"]

Float64 = NDArray[np.float64]
#: Key of `ir.Value.meta`: the float64 array that the stored float32 one was rounded from.
UNROUNDED = "onward.unrounded"
CONVOLUTIONS = ("Conv", "ConvTranspose")


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
        """The layer whose first node is this; None where it is none, or one that cannot be rewritten."""
        match node.op_type:
            case "Conv" | "ConvTranspose":
                return cls._of(node, node, node.inputs[2] if len(node.inputs) > 2 else None)
            case "Gemm" if _integer(node, "transA", 0) == 0 and _float(node, "alpha") == _float(node, "beta") == 1:
                return cls._of(node, node, node.inputs[2] if len(node.inputs) > 2 else None)
            case "MatMul" if _rank(node.inputs[0]) == 2:
                after = follows_alone(node.outputs[0])
                if after is not None and after.op_type == "Add":
                    other = after.inputs[1] if after.inputs[0] is node.outputs[0] else after.inputs[0]
                    if other is not None and constant(other) is not None:
                        return cls._of(node, after, other) or cls._of(node, node, None)
                return cls._of(node, node, None)
        return None

    @classmethod
    def ending_at(cls, node: ir.Node) -> LinearLayer | None:
        """The layer whose last node is this."""
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
        stored = constant(weight)
        if stored is None or (stored.ndim != 2 and first.op_type not in CONVOLUTIONS):
            return None
        layer = cls(first, last, weight, bias)
        if bias is not None:
            offset, num_outputs = constant(bias), len(layer.rows())
            if offset is None or offset.shape not in ((num_outputs,), (1, num_outputs)):
                return None
        return layer

    @property
    def output(self) -> ir.Value:
        """`(batch, outputs, …)`."""
        return self.last.outputs[0]

    @property
    def groups(self) -> int:
        """1 but for grouped convolutions."""
        return _integer(self.first, "group", 1)

    @property
    def is_padded(self) -> bool:
        """Whether it sees zeros around its input. (A transposed convolution drops terms at its borders.)"""
        if self.first.op_type not in CONVOLUTIONS:
            return False
        pads = self.first.attributes.get("pads")
        automatic = self.first.attributes.get_string("auto_pad", "NOTSET")
        return (
            self.first.op_type == "ConvTranspose"
            or automatic not in ("NOTSET", "VALID")
            or (automatic == "NOTSET" and pads is not None and any(pads.as_ints()))
        )

    def rows(self) -> Float64:
        """The weight as `(outputs, inputs of a group, kernel)`."""
        stored = cast(Float64, constant(self.weight))
        match self.first.op_type:
            case "Conv":
                return stored.reshape(*stored.shape[:2], -1)
            case "ConvTranspose":
                # (inputs, outputs of a group, *kernel), inputs in groups
                grouped = stored.reshape(self.groups, -1, *stored.shape[1:2], math.prod(stored.shape[2:]))
                return grouped.swapaxes(1, 2).reshape(-1, *grouped.shape[1:2], grouped.shape[3])
        return (stored if _integer(self.first, "transB", 0) else stored.T)[:, :, None]

    def offsets(self) -> Float64:
        """The bias `(outputs,)`, zeros where there is none."""
        stored = None if self.bias is None else constant(self.bias)
        return np.zeros(len(self.rows())) if stored is None else stored.reshape(-1)

    def per_input(self, values: Float64) -> Float64:
        """Values `(inputs,)` laid along rows: `(outputs, inputs of a group, 1)`. Not of a transposed convolution."""
        num_outputs = len(self.rows())
        return np.repeat(values.reshape(self.groups, -1), num_outputs // self.groups, axis=0)[:, :, None]

    def replace(self, until: ir.Node, rows: Float64, offsets: Float64, *, input: ir.Value | None = None) -> ir.Node:
        """Put one node with another weight and bias in the place of the layer and what follows it.

        Args:
            until: The last of the nodes that it stands for; the new node's output takes its output's name.
            rows: The new weight, `(outputs, inputs of a group, kernel)`; rounded to float32 here.
            offsets: The new bias `(outputs,)`.
            input: Another first input.
        """
        graph = self.first.graph
        assert isinstance(graph, ir.Graph)
        nodes = list(dict.fromkeys([self.first, self.last, until]))
        used = [value for item in nodes for value in item.inputs]
        weight = store(self.weight.name or "weight", self._in_layout(rows))
        name_of_bias = self.bias.name if self.bias is not None else None
        new = [weight]
        if self.bias is not None or offsets.any():
            new.append(store(name_of_bias or f"{(self.weight.name or '').removesuffix('.weight')}.bias", offsets))
        op_type = "Gemm" if self.first.op_type == "MatMul" else self.first.op_type
        node = ir.node(
            op_type,
            [self.first.inputs[0] if input is None else input, *new],
            attributes=dict(self.first.attributes),
            name=self.first.name,
            metadata_props={key: text for item in nodes for key, text in item.metadata_props.items()},
        )
        ir.convenience.replace_nodes_and_values(graph, until, nodes, [node], until.outputs[:1], node.outputs)
        drop_unused(graph, used)
        for value in new:
            register(graph, value)
        return node

    def _in_layout(self, rows: Float64) -> Float64:
        stored = cast(Float64, constant(self.weight))
        match self.first.op_type:
            case "Conv":
                return rows.reshape(len(rows), -1, *stored.shape[2:])
            case "ConvTranspose":
                grouped = rows.reshape(self.groups, -1, *rows.shape[1:]).swapaxes(1, 2)
                return grouped.reshape(stored.shape)
        return rows[:, :, 0] if _integer(self.first, "transB", 0) else np.ascontiguousarray(rows[:, :, 0].T)


def constant(value: ir.Value) -> Float64 | None:
    """A float32 initializer in float64, unrounded where a fold made it; None where it is none."""
    if not value.is_initializer() or value.is_graph_input() or value.const_value is None:
        return None
    if value.const_value.dtype != ir.DataType.FLOAT:
        return None
    kept: Float64 | None = value.meta.get(UNROUNDED)
    return value.const_value.numpy().astype(np.float64) if kept is None else kept


def store(name: str, array: Float64) -> ir.Value:
    """A value that holds the array rounded to float32, and the array itself for folds to come."""
    value = ir.Value(name=name, const_value=ir.tensor(array.astype(np.float32), name=name))
    value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.FLOAT
    value.meta[UNROUNDED] = array
    return value


def register(graph: ir.Graph, value: ir.Value) -> None:
    """Make a value an initializer, under another name where its own is taken."""
    while value.name in graph.initializers:
        value.name = f"{value.name}_folded"
    graph.register_initializer(value)


def drop_unused(graph: ir.Graph, values: Sequence[ir.Value | None]) -> None:
    """Remove those initializers among the values that nothing uses any more."""
    for value in values:
        if value is not None and value.is_initializer() and not value.uses() and not value.is_graph_output():
            graph.initializers.pop(value.name or "", None)


def follows_alone(value: ir.Value) -> ir.Node | None:
    """The one node that uses a value; None where several do, or the value leaves the graph."""
    users = [node for node, _ in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _integer(node: ir.Node, name: str, default: int) -> int:
    return node.attributes.get_int(name, default)


def _float(node: ir.Node, name: str) -> float:
    return node.attributes.get_float(name, 1.0)


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)
