"""Measurement: how far a graph is from the mathematics, before it is a file."""

from __future__ import annotations

import math

import onnx_ir as ir

from onward.backends import open_backend
from onward.backends.session import ORT_ERRORS
from onward.bundle.golden import GoldenRecord
from onward.errors import OnwardError
from onward.parity import CONSTANT, compare, regroup
from onward.tensor_signature import AnySignature
from onward_export.passes.graph_pass import Measure

__all__ = ["noise_ratio_of"]

#: What a graph raises that does not open or run.
BROKEN: tuple[type[Exception], ...] = (OnwardError, *ORT_ERRORS)
#: Of all samples; the gate measures the file in batches of every size.
BATCH_SIZE = 16


def noise_ratio_of(record: GoldenRecord, signature: AnySignature) -> Measure:
    """A measure: the worst noise ratio over all outputs and kinds of sample but the constant ones.

    Args:
        record: Samples, float64 reference and noise floor.
        signature: What the model takes and gives.

    Returns:
        A function of a model. Of one that does not open or run it is infinite: the gate says why.
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
