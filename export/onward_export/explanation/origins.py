"""Origins: the operator and the module of PyTorch that a value of an ONNX file comes from."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from typing import Any

from torch.export import ExportedProgram
from torch.fx import Node

__all__ = ["Origin", "origins_of"]

#: Operators after the exporter's decompositions -> the name that people know.
SHORTER = {"aten._native_batch_norm_legit_no_training": "aten.batch_norm", "aten._to_copy": "aten.to"}


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Args:
        operator: e.g. `aten.conv2d`.
        module: Path of the module that called it, e.g. `model.layer1.0.conv1`; empty at the top.
    """

    operator: str
    module: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.module or 'the top module'}"

    def to_json(self) -> dict[str, str]:
        """Both parts."""
        return asdict(self)


def origins_of(program: ExportedProgram) -> dict[str, Origin]:
    """Name of every computed value of a program -> its origin. Values of the ONNX file have the same names."""
    return {node.name: _origin(node) for node in program.graph.nodes if node.op == "call_function"}


def _origin(node: Node) -> Origin:
    while node.target is operator.getitem and isinstance(node.args[0], Node):  # one of several outputs
        node = node.args[0]
    stack: dict[str, Any] = node.meta.get("nn_module_stack") or {}
    path = list(stack.values())[-1][0] if stack else ""
    target: Any = node.target
    packet = getattr(target, "overloadpacket", None)
    name = packet._qualified_op_name.replace("::", ".") if packet is not None else getattr(target, "__name__", "")
    name = SHORTER.get(name, name)
    return Origin(name, path.removeprefix("L['self']").removeprefix(".").replace("L['self'].", ""))
