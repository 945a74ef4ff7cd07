"""Simplification: functions are inlined, constants are computed, needless nodes are removed, all by onnxscript.

It does what `torch.onnx.export(optimize=True)` does, without the batch norm rules: those round several times in
float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript.optimizer import fold_constants_ir
from onnxscript.rewriter import RewriteRuleSet, onnx_fusions
from onnxscript.rewriter.rules import common as rules

__all__ = ["Simplify"]

#: onnxscript's default rules, without `fuse_batchnorm_into_…`. Older versions have fewer of them.
RULE_NAMES = (
    "mul_by_1_rule",
    "add_0_rule",
    "sub_0_rule",
    "div_by_1_rule",
    "dropout_zero_rule",
    "dropout_inference_rule",
    "two_reshapes_matmul_reshape_rule",
    "one_reshape_matmul_reshape_rule",
    "cast_constant_of_shape_rule",
    "cast_constant_of_shape_without_value_rule",
    "collapse_slice_rule",
    "collapse_slice2_rule",
    "materialize_reshape_shape_rule",
    "min_min_rule",
    "max_max_rule",
    "min_max_rule",
    "max_min_rule",
    "successive_relu_rule",
    "successive_clip_relu_rule",
    "successive_relu_clip_rule",
    "successive_clip_rule",
    "cast_cast_rule",
    "no_op_cast_rule",
    "no_op_expand_rule",
    "flatten_to_reshape_rule",  # before reshape_reshape_rule
    "reshape_reshape_rule",
    "slice_split_rule",
    "no_op_transpose_rule",
    "transpose_transpose_rule",
    "unsqueeze_unsqueeze_rule",
    "squeeze_reshape_1d_rule",
    "no_op_dynamic_scatter_nd_rule",
    "no_op_static_scatter_nd_rule",
    "normalize_pad_format_conv_rule",
    "normalize_pad_format_conv_integer_rule",
    "fuse_pad_into_conv_rule",
    "fuse_pad_into_conv_integer_rule",
    "remove_optional_bias_from_conv_rule",
    "remove_optional_bias_from_conv_transpose_rule",
    "remove_optional_bias_from_gemm_rule",
    "remove_optional_bias_from_qlinear_conv_rule",
)
RULES = tuple(getattr(rules, name) for name in RULE_NAMES if hasattr(rules, name))
#: One rewrite makes another one possible.
NUM_ITERATIONS = 2


@dataclass(frozen=True)
class Simplify:
    """Inline functions, compute what depends on constants alone, rewrite nodes to simpler ones.

    `apply` returns the number of nodes that it removed.

    Source: onnxscript, `optimizer.optimize_ir`, `rewriter.rules.common`; onnx_ir, `passes.common`.
    """

    name: str = "constants and needless nodes"
    is_optional: bool = False

    def apply(self, model: ir.Model) -> int:
        """Run onnxscript's and onnx_ir's passes over the model."""
        common.InlinePass()(model)
        before = _num_nodes(model)
        for _ in range(NUM_ITERATIONS):
            fold_constants_ir(model)
            RewriteRuleSet(RULES).apply_to_model(model)  # older versions of RewritePass print
            common.RemoveUnusedNodesPass()(model)
        common.RemoveUnusedFunctionsPass()(model)  # type: ignore[no-untyped-call]
        common.RemoveUnusedOpsetsPass()(model)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        common.LiftSubgraphInitializersToMainGraphPass()(model)
        common.DeduplicateInitializersPass()(model)
        common.CommonSubexpressionEliminationPass()(model)
        common.OutputFixPass()(model)
        common.NameFixPass()(model)
        onnx_fusions.fuse(model)
        return max(before - _num_nodes(model), 0)

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """Functions, and Constant nodes."""
        constants = [
            node.name or "Constant"
            for node in model.graph
            if node.op_type == "Constant" and not node.outputs[0].is_graph_output()
        ]
        return [*(function.name for function in model.functions.values()), *constants]


def _num_nodes(model: ir.Model) -> int:
    return sum(1 for _ in model.graph.all_nodes())
