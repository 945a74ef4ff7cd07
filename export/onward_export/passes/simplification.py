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
from onnxscript.rewriter import RewritePass, onnx_fusions
from onnxscript.rewriter.rules import common as rules

__all__ = ["Simplify"]

#: onnxscript's default rules, by their public names, without `fuse_batchnorm_into_…`.
RULES = (
    rules.mul_by_1_rule,
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.div_by_1_rule,
    rules.dropout_zero_rule,
    rules.dropout_inference_rule,
    rules.two_reshapes_matmul_reshape_rule,
    rules.one_reshape_matmul_reshape_rule,
    rules.cast_constant_of_shape_rule,
    rules.cast_constant_of_shape_without_value_rule,
    rules.collapse_slice_rule,
    rules.collapse_slice2_rule,
    rules.materialize_reshape_shape_rule,
    rules.min_min_rule,
    rules.max_max_rule,
    rules.min_max_rule,
    rules.max_min_rule,
    rules.successive_relu_rule,
    rules.successive_clip_relu_rule,
    rules.successive_relu_clip_rule,
    rules.successive_clip_rule,
    rules.cast_cast_rule,
    rules.no_op_cast_rule,
    rules.no_op_expand_rule,
    rules.flatten_to_reshape_rule,  # before reshape_reshape_rule
    rules.reshape_reshape_rule,
    rules.slice_split_rule,
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.squeeze_reshape_1d_rule,
    rules.no_op_dynamic_scatter_nd_rule,
    rules.no_op_static_scatter_nd_rule,
    rules.normalize_pad_format_conv_rule,
    rules.normalize_pad_format_conv_integer_rule,
    rules.fuse_pad_into_conv_rule,
    rules.fuse_pad_into_conv_integer_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_conv_transpose_rule,
    rules.remove_optional_bias_from_gemm_rule,
    rules.remove_optional_bias_from_qlinear_conv_rule,
)
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
            RewritePass(RULES)(model)
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
