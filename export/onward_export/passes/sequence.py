"""Sequence: the passes one after the other, each on a copy, checked and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from onward.errors import NotExportable, reason_of
from onward_export.passes.batch_norm import FoldBatchNorm
from onward_export.passes.dead_code import RemoveLeftovers
from onward_export.passes.graph_pass import GraphPass, Measure, PassResult, fits_into_one_file
from onward_export.passes.normalization import FoldNormalization
from onward_export.passes.pixel_layout import FoldPixelLayout
from onward_export.passes.simplification import Simplify

__all__ = ["MAX_NOISE_RATIO_OF_A_PASS", "PASSES", "run_passes"]

#: An optional pass is left out where the noise ratio after it is above this and above what it was. The gate, which
#: sees batches of every size, closes above 3.
MAX_NOISE_RATIO_OF_A_PASS = 2.0
PASSES: tuple[GraphPass, ...] = (
    Simplify(),
    FoldBatchNorm(),
    FoldNormalization(),
    RemoveLeftovers(),
    FoldPixelLayout(),
)


def run_passes(
    model: ir.Model, *, measure: Measure | None = None, passes: Sequence[GraphPass] = PASSES
) -> tuple[ir.Model, tuple[PassResult, ...]]:
    """Apply each pass to a copy and go on with that copy, unless it is optional and costs precision.

    Args:
        model: As it was translated; it is left as it is.
        measure: The worst noise ratio of a model; without it, and where the weights take 2 GiB or more, nothing is
            measured, and every pass is kept.
        passes: In order.

    Returns:
        The model after the passes that were kept, and a result for each pass.

    Raises:
        NotExportable: A pass failed, or what it promises does not hold of what it made.
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
        return True, "It applies nowhere."
    if before is None or after is None:
        return True, "It was not measured."
    limit = f"{MAX_NOISE_RATIO_OF_A_PASS:g}"
    if after <= MAX_NOISE_RATIO_OF_A_PASS:
        return True, f"The noise ratio stays at most {limit}."
    if after <= before:
        return True, f"The noise ratio is above {limit}, and was so before."
    if not item.is_optional:
        return True, f"The noise ratio is above {limit}, but the graph is not fast without this pass."
    return False, f"It would take the noise ratio from {before:.2f} to {after:.2f}, above {limit}."


def _apply(item: GraphPass, model: ir.Model) -> tuple[ir.Model, int]:
    candidate = model.clone()
    try:
        num_applied = item.apply(candidate)
        if num_applied and fits_into_one_file(candidate):
            CheckerPass(full_check=True)(candidate)
    except Exception as error:  # of whatever the libraries below raise
        raise NotExportable(f"the pass {item.name!r} gives no valid graph: {reason_of(error)}") from error
    remaining = item.remaining(candidate)
    if remaining:
        raise NotExportable(f"the pass {item.name!r} left what it should have changed: {', '.join(remaining)}.")
    before, after = _interface(model), _interface(candidate)
    if before != after:
        raise NotExportable(f"the pass {item.name!r} changed inputs or outputs from {before} to {after}.")
    return candidate, num_applied


def _interface(model: ir.Model) -> list[tuple[Any, ...]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, str(value.dtype), str(value.shape)) for value in values]
