"""PredictOptions: how a run predicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.errors import UsageError

__all__ = ["PredictOptions"]

ON_ERROR = ("list", "fail")


@dataclass(frozen=True)
class PredictOptions:
    """How a run predicts.

    Args:
        top_k: How many classes a row.
        logits: Whether rows hold all logits, too.
        batch_size: Images an inference; None finds it by measurement, while the run goes on.
        streams: How many inferences run at a time; None finds it.
        num_threads: Of decoding and inference together; None takes every core that this process may use.
        on_error: `list` writes what cannot be read beside the output and goes on, `fail` stops at the first.
        resume: True goes on with an unfinished run at this output, False begins anew; None does neither where one
            stands.
        commit_every_s: How much work a crash may cost, in seconds.
        request: What else the run was asked for, as plain data, such as the names of the inputs. A run goes on only
            where it was asked for the same, with the same artifact, top-k and logits.

    Raises:
        UsageError: A number is out of range.
    """

    top_k: int = 1
    logits: bool = False
    batch_size: int | None = None
    streams: int | None = None
    num_threads: int | None = None
    on_error: str = "list"
    resume: bool | None = None
    commit_every_s: float = 1.0
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Any]:
        """What was asked for of the columns, as `onward.tasks.Task.columns` takes it."""
        return {"top_k": self.top_k, "logits": self.logits}

    def __post_init__(self) -> None:
        for name in ("batch_size", "streams", "num_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', ' ')} is {value}, expected at least 1.")
        if self.on_error not in ON_ERROR:
            raise UsageError(f"--on-error is {self.on_error!r}, expected {' or '.join(ON_ERROR)}.")
