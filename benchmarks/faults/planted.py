"""Planted: one fault in a graph, and what faults look for in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

__all__ = ["Fault", "Planted", "StoredTensors", "attribute_of", "choose", "name_of"]


@dataclass(frozen=True)
class Planted:
    """Where a fault was planted.

    Args:
        node: The node with the fault, or the first one that reads the changed value.
        value: The name of the changed stored value; empty where a node was changed.
        others: Stored values that were changed with it.
    """

    node: str
    value: str = ""
    others: tuple[str, ...] = ()


#: Edits a graph at one place and says where; None where there is no such place.
Fault = Callable[[onnx.ModelProto, random.Random], Planted | None]


def name_of(node: onnx.NodeProto) -> str:
    """The name of a node as the explanation has it."""
    return str(node.name or node.output[0])


def choose(
    model: onnx.ModelProto, choice: random.Random, fits: Callable[[onnx.NodeProto], bool]
) -> onnx.NodeProto | None:
    """One of the nodes that fit."""
    nodes = [node for node in model.graph.node if fits(node)]
    return choice.choice(nodes) if nodes else None


def attribute_of(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """An attribute of a node, if it has it."""
    return next((item for item in node.attribute if item.name == name), None)


class StoredTensors:
    """The floating-point tensors that a graph stores: initializers and constants, by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        stored = {item.name: item for item in model.graph.initializer}
        for node in model.graph.node:
            value = attribute_of(node, "value") if node.op_type == "Constant" else None
            if value is not None:
                stored[node.output[0]] = value.t
        self.tensors = {name: item for name, item in stored.items() if item.data_type == onnx.TensorProto.FLOAT}
        self.arrays = {name: numpy_helper.to_array(item).copy() for name, item in self.tensors.items()}

    def weights(self) -> list[str]:
        """The names of those with more than one number that a node reads."""
        return [name for name, array in self.arrays.items() if array.size > 1 and self.reader(name) is not None]

    def numbers(self) -> list[str]:
        """The names of the single numbers that a node reads."""
        return [name for name, array in self.arrays.items() if array.size == 1 and self.reader(name) is not None]

    def reader(self, name: str) -> onnx.NodeProto | None:
        """The first node that reads a tensor."""
        return next(self.readers(name), None)

    def readers(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read a value."""
        return (node for node in self.model.graph.node if name in node.input)

    def change(self, name: str, array: NDArray[np.float32], others: tuple[str, ...] = ()) -> Planted | None:
        """Store another array in place of a tensor; None where the numbers are the same."""
        reader = self.reader(name)
        if reader is None or np.array_equal(array, self.arrays[name]):
            return None
        stored = self.tensors[name]
        stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array, np.float32), stored.name))
        return Planted(name_of(reader), name, others)
