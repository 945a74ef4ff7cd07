"""Graph pass: what every pass has, and what is reported of one.

Measurement: how far a graph is from the mathematics, before it is a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import onnx_ir as ir

from onward.backends import open_backend
from onward.backends.onnxruntime_backend import ORT_ERRORS
from onward.bundle.golden import GoldenRecord
from onward.errors import OnwardError
from onward.parity import CONSTANT, compare, regroup
from onward.signature import AnySignature

__all__ = [
    "MAX_FILE_BYTES",
    "GraphPass",
    "Measure",
    "PassResult",
    "fits_into_one_file",
    "noise_ratio_of",
    "weights_bytes",
]


#: protobuf's own limit is 2 GiB; names and nodes need some of it.
MAX_FILE_BYTES = (2 << 30) - (16 << 20)

#: The worst noise ratio of a model.
Measure = Callable[[ir.Model], float]


class GraphPass(Protocol):
    """One way to change a graph that does not change what it computes, in real arithmetic."""

    @property
    def name(self) -> str:
        """As reports have it."""

    @property
    def is_optional(self) -> bool:
        """Whether it is left out where it costs precision."""

    def apply(self, model: ir.Model) -> int:
        """Change the model in place wherever the precondition holds.

        The output of a fused node keeps the name of the last value that was fused; a value that now means something
        else gets another name.

        Returns:
            How many places were changed.
        """

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """The postcondition: names of what should be gone after `apply`; none where it holds."""


@dataclass(frozen=True)
class PassResult:
    """What one pass did.

    Args:
        name: The pass.
        num_applied: Places that it changed.
        noise_ratio_before: Of the model before it; None where nothing was measured.
        noise_ratio_after: Of the model that it made.
        was_kept: Whether that model is the one that goes on.
        reason: Why, in a sentence.
    """

    name: str
    num_applied: int
    noise_ratio_before: float | None
    noise_ratio_after: float | None
    was_kept: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def weights_bytes(model: ir.Model) -> int:
    """What the initializers of a graph take."""
    values = (item.const_value for item in model.graph.initializers.values())
    return sum(value.nbytes for value in values if value is not None)


def fits_into_one_file(model: ir.Model) -> bool:
    """Whether protobuf can hold the graph with its weights; else nothing that serializes it can look at it."""
    return weights_bytes(model) <= MAX_FILE_BYTES


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
