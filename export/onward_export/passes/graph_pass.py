"""Graph pass: the interface of a pass, and the report on one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import onnx_ir as ir

from onward_export.options import MAX_PROTOBUF_BYTES

__all__ = ["GraphPass", "PassResult", "fits_into_one_file", "weights_bytes"]


class GraphPass(Protocol):
    """One way to change a graph. In real arithmetic the graph computes the same afterwards."""

    @property
    def name(self) -> str:
        """Its name in reports."""

    @property
    def is_optional(self) -> bool:
        """Whether it is left out where it costs precision."""

    def apply(self, model: ir.Model) -> int:
        """Change the model in place wherever the precondition holds.

        The output of a fused node keeps the name of the last value that was fused. A value with another meaning than
        before gets another name.

        Returns:
            The number of places that were changed.
        """

    def remaining(self, model: ir.Model) -> Sequence[str]:
        """The postcondition: names of nodes that `apply` should have changed and did not; empty where it holds."""


@dataclass(frozen=True)
class PassResult:
    """What one pass did.

    Args:
        name: The name of the pass.
        num_applied: The number of places that it changed.
        noise_ratio_before: The worst noise ratio of the model before it; None where that was not measured.
        noise_ratio_after: The worst noise ratio of the model after it; None where that was not measured.
        was_kept: Whether the changed model was kept.
        reason: Why it was kept or not, in a sentence.
    """

    name: str
    num_applied: int
    noise_ratio_before: float | None
    noise_ratio_after: float | None
    was_kept: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)


def weights_bytes(model: ir.Model) -> int:
    """The size of a graph's initializers."""
    values = (item.const_value for item in model.graph.initializers.values())
    return sum(value.nbytes for value in values if value is not None)


def fits_into_one_file(model: ir.Model) -> bool:
    """Whether one protobuf can hold the graph with its weights. A larger graph cannot be checked or measured."""
    return weights_bytes(model) <= MAX_PROTOBUF_BYTES
