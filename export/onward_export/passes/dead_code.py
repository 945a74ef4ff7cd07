"""Dead code: nodes that do nothing or that nothing uses, and initializers that are stored twice or not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["RemoveDeadCode"]


@dataclass(frozen=True)
class RemoveDeadCode:
    """Remove identities, dead nodes, and initializers that are duplicate or unused.

    `apply` returns the number of nodes and initializers that it removed.

    Source: onnx_ir, `passes.common`.
    """

    name: str = "identities and dead nodes"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        """Remove them."""
        before = _size(model)
        for node in model.graph:
            if _expands_nothing(node):
                node.op_type = "Identity"
                node.resize_inputs(1)
        common.IdentityEliminationPass()(model)
        common.DeduplicateInitializersPass()(model)
        common.RemoveUnusedNodesPass()(model)
        return before - _size(model)

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Nodes and initializers that nothing uses, and Expand nodes that change nothing."""
        unused = [_name(node) for node in model.graph if not any(map(_is_used, node.outputs))]
        unused += [name for name, value in model.graph.initializers.items() if not _is_used(value)]
        return unused + [_name(node) for node in model.graph if _expands_nothing(node)]


def _expands_nothing(node: ir.Node) -> bool:
    # PyTorch's `repeat` begins with an Expand to (1, 1, 1, 1); onnx_ir removes one only where every size is known
    if node.op_type != "Expand" or node.inputs[0] is None or node.inputs[0].shape is None:
        return False
    sizes = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
    return sizes is not None and sizes.size <= len(node.inputs[0].shape) and bool((sizes.numpy() == 1).all())


def _size(model: ir.Model) -> int:
    return sum(1 for _ in model.graph.all_nodes()) + len(model.graph.initializers)


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _name(node: ir.Node) -> str:
    return node.name or node.op_type
