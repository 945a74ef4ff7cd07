"""Position: how far a run has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Position"]


@dataclass(frozen=True)
class Position:
    """How far a run has come: all that it needs to go on from there.

    Args:
        num_inputs: Dealt with, from the first.
        num_predicted: Rows.
        num_labelled: Rows whose input came with a label of the model's.
        num_correct: Of these, rows of that label.
        digest: Of the names and stamps of the inputs dealt with.
        plan: That the last of them were run by.
    """

    num_inputs: int = 0
    num_predicted: int = 0
    num_labelled: int = 0
    num_correct: int = 0
    digest: str = ""
    plan: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_failures(self) -> int:
        """Inputs that gave no row."""
        return self.num_inputs - self.num_predicted

    def after(
        self,
        *,
        num_inputs: int,
        num_predicted: int,
        num_labelled: int,
        num_correct: int,
        digest: str,
        plan: Mapping[str, int],
    ) -> Position:
        """With one more batch dealt with."""
        return replace(
            self,
            num_inputs=self.num_inputs + num_inputs,
            num_predicted=self.num_predicted + num_predicted,
            num_labelled=self.num_labelled + num_labelled,
            num_correct=self.num_correct + num_correct,
            digest=digest,
            plan=plan,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data; `Position(**position.to_json()) == position`."""
        return asdict(self)
