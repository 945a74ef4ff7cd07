"""Sequence: the passes one after the other. Each runs on a copy, which is then checked and measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from onward.backends import open_backend
from onward.backends.onnxruntime_backend import ORT_ERRORS
from onward.bundle.golden import GoldenRecord
from onward.errors import NotExportable, OnwardError, reason_of
from onward.parity import CONSTANT, compare, regroup
from onward.signature import AnySignature
from onward_export.passes.batch_norm import FoldBatchNorm
from onward_export.passes.dead_code import RemoveDeadCode
from onward_export.passes.graph_pass import GraphPass, PassResult, fits_into_one_file
from onward_export.passes.normalization import FoldNormalization
from onward_export.passes.pixel_layout import FoldPixelLayout
from onward_export.passes.simplification import Simplify

__all__ = ["MAX_NOISE_RATIO_OF_A_PASS", "PASSES", "Measure", "noise_ratio_of", "run_passes"]

#: Gives the worst noise ratio of a model.
Measure = Callable[[ir.Model], float]
#: An optional pass is left out where the noise ratio after it is above this and above the ratio before it. The gate,
#: which measures batches of every size, fails above 3.
MAX_NOISE_RATIO_OF_A_PASS = 2.0
#: What a graph raises that does not open or run.
BROKEN: tuple[type[Exception], ...] = (OnwardError, *ORT_ERRORS)
#: All samples are measured in batches of this size; the gate measures the file in batches of every size.
BATCH_SIZE = 16
PASSES: tuple[GraphPass, ...] = (
    Simplify(),
    FoldBatchNorm(),
    FoldNormalization(),
    RemoveDeadCode(),
    FoldPixelLayout(),
)


def run_passes(
    model: ir.Model, *, measure: Measure | None = None, passes: Sequence[GraphPass] = PASSES
) -> tuple[ir.Model, tuple[PassResult, ...]]:
    """Apply each pass to a copy, and keep the copy unless the pass is optional and costs precision.

    Args:
        model: The translated model; it is not changed.
        measure: Gives the worst noise ratio of a model. Without it, and where the weights take 2 GiB or more, nothing
            is measured and every pass is kept.
        passes: The passes, in order.

    Returns:
        The model after the passes that were kept, and a result for each pass.

    Raises:
        NotExportable: A pass failed, or its result does not have the properties that the pass promises.
    """
    results: list[PassResult] = []
    if not fits_into_one_file(model):
        measure = None
    ratio = measure(model) if measure else None
    for item in passes:
        candidate, num_applied = _apply(item, model)
        after = measure(candidate) if measure and num_applied else ratio
        was_kept, reason = _judge(item, num_applied, ratio, after)
        results.append(PassResult(item.name, num_applied, ratio, after, was_kept, reason))
        if was_kept:
            model, ratio = candidate, after
    return model, tuple(results)


def _judge(item: GraphPass, num_applied: int, before: float | None, after: float | None) -> tuple[bool, str]:
    if not num_applied:
        return True, "Nothing to change."
    if before is None or after is None:
        return True, "It was not measured."
    limit = f"{MAX_NOISE_RATIO_OF_A_PASS:g}"
    if after <= MAX_NOISE_RATIO_OF_A_PASS:
        return True, f"The noise ratio stays at or below {limit}."
    if after <= before:
        return True, f"The noise ratio is above {limit}, but not above the ratio before."
    if not item.is_optional:
        return True, f"The noise ratio is above {limit}, but the graph is slow without this pass."
    return False, f"It would raise the noise ratio from {before:.2f} to {after:.2f}, above {limit}."


def _apply(item: GraphPass, model: ir.Model) -> tuple[ir.Model, int]:
    candidate = model.clone()
    try:
        num_applied = item.apply(candidate)
        if num_applied and fits_into_one_file(candidate):
            CheckerPass(full_check=True)(candidate)
    except Exception as error:  # onnx, onnx_ir and onnxscript raise errors of every kind
        raise NotExportable(
            f"the pass {item.name!r} gives an invalid graph: {reason_of(error).rstrip('.')}. "
            f"`--formats torchscript,pt2` exports without ONNX."
        ) from error
    remaining = item.remaining(candidate)
    if remaining:
        raise NotExportable(
            f"the pass {item.name!r} did not change {', '.join(remaining)}, which it should have changed."
        )
    before, after = _interface(model), _interface(candidate)
    if before != after:
        raise NotExportable(
            f"the pass {item.name!r} changed the inputs or outputs of the graph: found {after}, expected {before}."
        )
    return candidate, num_applied


def _interface(model: ir.Model) -> list[tuple[Any, ...]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, str(value.dtype), str(value.shape)) for value in values]


def noise_ratio_of(record: GoldenRecord, signature: AnySignature) -> Measure:
    """A function that gives the worst noise ratio of a model over all outputs and samples except constant ones.

    Args:
        record: Samples, float64 reference and noise floor.
        signature: The inputs and outputs of the model.

    Returns:
        The function. It gives infinity for a model that does not open or run; the gate reports the reason.
    """
    kinds = [kind for kind in record.inputs if kind != CONSTANT]

    def measure(model: ir.Model) -> float:
        try:
            backend = open_backend("onnx", ir.to_proto(model).SerializeToString(), signature)
            given = {kind: regroup(backend.run, record.inputs[kind], BATCH_SIZE) for kind in kinds}
        except BROKEN:
            return math.inf
        rows = [
            compare(name, kind, [given[kind][name]], expected, record.eager[kind][name], record.noise[kind][name])
            for kind in kinds
            for name, expected in record.reference[kind].items()
        ]
        ratios = [row.noise_ratio for row in rows]
        return math.inf if any(map(math.isnan, ratios)) else max(ratios)

    return measure
