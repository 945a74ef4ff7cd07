"""Program values: the values inside an exported program, in any precision, from its inputs or from values within it."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node
from torch.fx.node import map_arg

from onward.feed import Feed, arrays_of
from onward_export.reference.widening import widened

__all__ = ["ProgramValues"]

#: Precision of the real numbers -> that of the complex ones.
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class ProgramValues:
    """Computes values of a program.

    Args:
        program: The program, in float32, without operators that write into their arguments.
        state: Weights and buffers to use in place of the program's own, by name.
    """

    def __init__(self, program: ExportedProgram, state: Mapping[str, Tensor] | None = None) -> None:
        signature = program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        stored = {**program.state_dict, **program.constants, **(state or {})}
        self.graph_module = program.graph_module
        self.nodes: dict[str, Node] = {node.name: node for node in program.graph.nodes}
        self.stored: dict[Node, Any] = {node: stored[names[name]] for name, node in self.nodes.items() if name in names}
        self.inputs = [node for node in self.nodes.values() if node.op == "placeholder" and node not in self.stored]

    def has_real(self, name: str) -> bool:
        """Whether the program computes a tensor of this name that is not complex: a file stores complex numbers as
        two planes."""
        node = self.nodes.get(name)
        value = None if node is None or node.op != "call_function" else node.meta.get("val")
        return isinstance(value, Tensor) and not value.is_complex()

    def numbers(self) -> list[str]:
        """The names of the numbers that the program computes, most of them from the sizes of its inputs."""
        numbers = (int, float, bool, torch.SymInt, torch.SymFloat, torch.SymBool)
        return [name for name, node in self.nodes.items() if isinstance(node.meta.get("val"), numbers)]

    def depends_on_inputs(self, name: str, given: Collection[str]) -> bool:
        """Whether a value depends on the program's inputs in another way than through the given values."""
        known = self._with_twins({self.nodes[item]: None for item in given if item in self.nodes})
        needed = self._needed([self.nodes[name]], known)
        return any(node in needed for node in self.inputs)

    def compute(
        self, names: Collection[str], feed: Feed, dtype: torch.dtype, given: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Compute values.

        Args:
            names: Their names; those that the program does not have are ignored.
            feed: The inputs.
            dtype: float32 or float64: the precision of every float.
            given: Name -> tensor or number, in place of what the program would compute.

        Returns:
            Name -> tensor or number.
        """
        wanted = [self.nodes[name] for name in names if name in self.nodes]
        known = dict(zip(self.inputs, map(_tensor, arrays_of(feed)), strict=True)) | self.stored
        known |= self._with_twins(
            {self.nodes[name]: value for name, value in (given or {}).items() if name in self.nodes}
        )
        needed = self._needed(wanted, known)
        values = {node: _in_precision(known[node], dtype) for node in known if node in needed}
        users = Counter(source for node in needed - known.keys() for source in node.all_input_nodes)
        users.update(wanted)  # a wanted value is kept
        with torch.inference_mode(), widened(dtype) if dtype == torch.float64 else nullcontext():
            for node in self.nodes.values():
                if node in needed and node not in values:
                    values[node] = self._compute(node, values, dtype)
                    users.subtract(node.all_input_nodes)
                    for source in node.all_input_nodes:
                        if not users[source]:
                            values.pop(source, None)
        return {node.name: values[node] for node in wanted}

    def _compute(self, node: Node, values: Mapping[Node, Any], dtype: torch.dtype) -> Any:
        if node.op == "get_attr":  # a branch of a conditional, or a constant
            return _in_precision(operator.attrgetter(str(node.target))(self.graph_module), dtype)
        args, kwargs = map_arg((node.args, node.kwargs), values.__getitem__)
        target: Any = node.target
        return target(*args, **kwargs)

    def _with_twins(self, given: Mapping[Node, Any]) -> dict[Node, Any]:
        """Give the same value to nodes that compute the same: a file holds such a value once."""
        by_kind = {self._kinds[node]: value for node, value in given.items()}
        return {node: by_kind[kind] for node, kind in self._kinds.items() if kind in by_kind} | dict(given)

    @cached_property
    def _kinds(self) -> dict[Node, str]:
        """Nodes with the same kind compute the same."""
        kinds: dict[Node, str] = {}
        numbers: dict[str, str] = {}
        for node in self.nodes.values():
            if node.op == "call_function":
                arguments = map_arg((node.args, node.kwargs), kinds.__getitem__)
                text = f"{node.target} {arguments}"
            else:
                text = f"{node.op} {node.name}"
            kinds[node] = numbers.setdefault(text, f"value {len(numbers)}")
        return kinds

    def _needed(self, wanted: Collection[Node], known: Collection[Node]) -> set[Node]:
        """The wanted nodes and all that they are computed from, back to known ones."""
        needed: set[Node] = set()
        open_nodes = list(wanted)
        while open_nodes:
            node = open_nodes.pop()
            if node not in needed:
                needed.add(node)
                open_nodes += [] if node in known else node.all_input_nodes
        return needed


def _tensor(array: Any) -> Tensor:
    return torch.tensor(np.ascontiguousarray(array))


def _in_precision(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.is_complex():
        return value.to(COMPLEX[dtype])
    return value.to(dtype) if value.is_floating_point() else value
