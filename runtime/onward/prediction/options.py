"""Options of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from onward.errors import UsageError
from onward.prediction.shard import Shard
from onward.tasks.task import LABELS_ARE

__all__ = ["PredictKeywords", "PredictOptions"]

ON_ERROR = ("list", "fail")


@dataclass(frozen=True)
class PredictOptions:
    """Options of a run.

    Args:
        top_k: Number of classes per row, most probable first.
        logits: Write all logits, too.
        batch_size: Images per inference; None tunes it during the run.
        streams: Inferences at the same time; None tunes it during the run.
        num_threads: Threads for decoding and inference together; None uses every core available to the process.
        on_error: `list` writes unreadable inputs to a file beside the output and goes on; `fail` stops at the first.
        resume: True resumes an unfinished run at this output, `changed` does so even if some of its inputs were
            changed, added or removed since, and computes only those anew; False starts over and replaces what is there;
            with None, an unfinished run or an output that exists is an error.
        commit_every_s: Seconds of work that a crash may cost.
        csv_safe: In a .csv, put an apostrophe before names and labels that a spreadsheet would take for a formula.
        shard: Which share of the inputs; None takes all. `Shard(0, 3)`, or text: `0/3`.
        labels_are: What labels that come with inputs are, those of folders apart: `names` of classes, or `indices` from
            0. None is enough unless the model's labels are numbers that are not their own indices.
        request: What else the run was asked for, as plain data, such as the names of the inputs. A run is only resumed
            with the same request, artifact, top-k and logits.

    Raises:
        UsageError: A number is out of range.
    """

    top_k: int = 1
    logits: bool = False
    batch_size: int | None = None
    streams: int | None = None
    num_threads: int | None = None
    on_error: str = "list"
    resume: bool | Literal["changed"] | None = None
    commit_every_s: float = 1.0
    csv_safe: bool = False
    shard: Shard | str | None = None
    labels_are: str | None = None
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> dict[str, Any]:
        """The options that decide what a row contains, as `onward.tasks.Task.columns` takes them."""
        return {"top_k": self.top_k, "logits": self.logits}

    def __post_init__(self) -> None:
        for name in ("batch_size", "streams", "num_threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', ' ')} is {value}, expected at least 1.")
        if isinstance(self.shard, str):
            object.__setattr__(self, "shard", Shard.parse(self.shard))
        if self.labels_are not in LABELS_ARE:
            raise UsageError(f"--labels-are is {self.labels_are!r}, expected names or indices.")
        if self.on_error not in ON_ERROR:
            raise UsageError(f"--on-error is {self.on_error!r}, expected {' or '.join(ON_ERROR)}.")


class PredictKeywords(TypedDict, total=False):
    """The fields of `PredictOptions`, as keywords of a function."""

    top_k: int
    logits: bool
    batch_size: int | None
    streams: int | None
    num_threads: int | None
    on_error: str
    resume: bool | Literal["changed"] | None
    commit_every_s: float
    csv_safe: bool
    shard: Shard | str | None
    labels_are: str | None
    request: Mapping[str, Any]
