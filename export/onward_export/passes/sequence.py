"""Sequence: the passes one after the other. Each runs on a copy, which is then checked and measured."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass

from onward.bundle.golden import GoldenRecord
from onward.errors import BackendError, NotExportable, reason_of
from onward.parity import CONSTANT, compare
from onward.signature import AnySignature
from onward_export.opening import ArtifactProcess
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
    """Apply each pass to a copy, and keep the copy unless the pass is optional and fails or costs precision.

    The model after all passes is measured. Only where that costs precision is each pass measured.
    The translated model itself is not measured: before it is simplified, it may hold what no runtime runs.

    Args:
        model: The translated model; it is not changed.
        measure: Gives the worst noise ratio of a model. Without it, and where the weights take 2 GiB or more, nothing
            is measured and every pass is kept.
        passes: The passes, in order.

    Returns:
        The model after the passes that were kept, and a result for each pass.

    Raises:
        NotExportable: The translated model is invalid, or a pass that is not optional failed.
    """
    if measure is None or not fits_into_one_file(model):
        return _run_each(model, passes, None)
    together, results = _run_each(model, passes, None)
    costly = [at for at, item in enumerate(passes) if item.is_optional and results[at].num_applied]
    if not costly:
        return together, results
    ratio = measure(together)
    if not ratio <= MAX_NOISE_RATIO_OF_A_PASS:  # NaN, too
        return _run_each(model, passes, measure)
    reason = f"The noise ratio with all passes is at or below {MAX_NOISE_RATIO_OF_A_PASS:g}."
    measured = {at: replace(results[at], reason=reason) for at in costly}
    measured[costly[-1]] = replace(measured[costly[-1]], noise_ratio_after=ratio)
    return together, tuple(measured.get(at, result) for at, result in enumerate(results))


def _run_each(
    model: ir.Model, passes: Sequence[GraphPass], measure: Measure | None
) -> tuple[ir.Model, tuple[PassResult, ...]]:
    """Apply the passes one after the other; each optional one is measured before the next, if there is a measure."""
    results: list[PassResult] = []
    ratio: float | None = None
    for item in passes:
        if item.is_optional and measure and ratio is None:
            ratio = measure(model)
            if math.isinf(ratio):
                measure = ratio = None
        model, result = _run(item, model, ratio, measure)
        results.append(result)
        if result.was_kept:
            ratio = result.noise_ratio_after
    return model, tuple(results)


def _run(
    item: GraphPass, model: ir.Model, before: float | None, measure: Measure | None
) -> tuple[ir.Model, PassResult]:
    candidate = model.clone()
    try:
        num_applied = _apply(item, candidate, _interface(model))
    except _PassFailure as failure:
        if item.is_optional:
            return model, PassResult(item.name, 0, before, None, False, f"Left out: it {failure}.")
        if reason := _why_invalid(model):
            raise NotExportable(f"the graph that torch.onnx wrote is invalid: {reason}.{_advice(reason)}") from failure
        raise NotExportable(f"the pass {item.name!r} {failure}.") from failure
    after = measure(candidate) if measure and num_applied and item.is_optional else before
    if after == math.inf:
        return model, PassResult(
            item.name, num_applied, before, None, False, "Left out: the graph does not run with it."
        )
    was_kept, reason = _judge(item, num_applied, before, after)
    return candidate if was_kept else model, PassResult(item.name, num_applied, before, after, was_kept, reason)


def _judge(item: GraphPass, num_applied: int, before: float | None, after: float | None) -> tuple[bool, str]:
    if not num_applied:
        return True, "Nothing to change."
    if not item.is_optional:
        return True, "The passes after it need it."
    if before is None or after is None:
        return True, "It was not measured."
    limit = f"{MAX_NOISE_RATIO_OF_A_PASS:g}"
    if after <= MAX_NOISE_RATIO_OF_A_PASS:
        return True, f"The noise ratio stays at or below {limit}."
    if after <= before:
        return True, f"The noise ratio is above {limit}, but not above the ratio before."
    return False, f"It would raise the noise ratio from {before:.2f} to {after:.2f}, above {limit}."


class _PassFailure(Exception):
    """What a pass did wrong: a predicate whose subject is the pass."""


def _apply(item: GraphPass, model: ir.Model, interface: list[tuple[Any, ...]]) -> int:
    """Apply a pass in place and check what it promises; the number of places that were changed."""
    try:
        num_applied = item.apply(model)
    except Exception as error:  # onnx, onnx_ir and onnxscript raise errors of every kind
        raise _PassFailure(f"fails: {reason_of(error).rstrip('.')}") from error
    if (num_applied or not item.is_optional) and (reason := _why_invalid(model)):
        raise _PassFailure(f"gives an invalid graph: {reason}")
    if remaining := item.remaining(model):
        raise _PassFailure(f"did not change {', '.join(remaining)}, which it should have changed")
    if _interface(model) != interface:
        raise _PassFailure(
            f"changed the inputs or outputs of the graph: found {_interface(model)}, expected {interface}"
        )
    return num_applied


def _why_invalid(model: ir.Model) -> str:
    """Why onnx calls a graph invalid, without a full stop; empty where it is valid or too large to be checked."""
    if not fits_into_one_file(model):
        return ""
    try:
        CheckerPass(full_check=True)(model)
    except Exception as error:  # of every kind, as above
        return reason_of(error).rstrip(".")
    return ""


def _advice(reason: str) -> str:
    """The opset that has the operator, where onnx finds none in the model's opset; else empty."""
    found = re.search(r"No Op registered for (\w+) with domain_version of (\d+)", reason)
    schemas = onnx.defs.get_all_schemas_with_history() if found else []
    versions = [item.since_version for item in schemas if found and (item.domain, item.name) == ("", found[1])]
    later = [version for version in versions if found and version > int(found[2])]
    return f" {found[1]} exists from opset {min(later)} on: `--opset {min(later)}`." if found and later else ""


def _interface(model: ir.Model) -> list[tuple[Any, ...]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, str(value.dtype), str(value.shape)) for value in values]


def noise_ratio_of(record: GoldenRecord, signature: AnySignature, process: ArtifactProcess) -> Measure:
    """A function that gives the worst noise ratio of a model over all outputs and samples except constant ones.

    Args:
        record: Samples, float64 reference and noise floor.
        signature: The inputs and outputs of the model.
        process: Runs the model, which may crash onnxruntime.

    Returns:
        The function. It gives infinity for a model that does not open or run; the gate reports the reason.
    """
    kinds = [kind for kind in record.inputs if kind != CONSTANT]

    def measure(model: ir.Model) -> float:
        data = ir.to_proto(model).SerializeToString()
        try:
            with process.lock:
                opened = process.open("onnx", data, signature)
                given = {kind: opened.regroup(record.inputs[kind], BATCH_SIZE) for kind in kinds}
        except BackendError:
            return math.inf
        rows = [
            compare(name, kind, [given[kind][name]], expected, record.eager[kind][name], record.noise[kind][name])
            for kind in kinds
            for name, expected in record.reference[kind].items()
        ]
        ratios = [row.noise_ratio for row in rows]
        return math.inf if any(map(math.isnan, ratios)) else max(ratios)

    return measure
