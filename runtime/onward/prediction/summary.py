"""Summary: what a run came to, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any

from onward.backends.placement import Placement
from onward.prediction.tuner import Plan

__all__ = ["STAGES", "Failure", "Seconds", "Summary"]

STAGES = ("read", "decode", "resize", "infer", "write", "wait")
MAX_FAILURES_KEPT = 100


@dataclass(frozen=True)
class Failure:
    """One input that gave no row, the stage at which it did not, and why."""

    input: str
    stage: str
    reason: str


@dataclass
class Seconds:
    """Time that threads have spent, in seconds, by stage.

    Reading includes decompressing archives; waiting is what is left: for another thread's turn, or for the disk.
    """

    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    infer: float = 0.0
    write: float = 0.0
    wait: float = 0.0

    def add(self, stage: str, since: float) -> float:
        """Count the time since then, and give the present one."""
        now = perf_counter()
        setattr(self, stage, getattr(self, stage) + now - since)
        return now

    def wait_for(self, whole: float) -> None:
        """What is left of the time of all threads was spent waiting."""
        self.wait = max(0.0, whole - sum(getattr(self, stage) for stage in STAGES if stage != "wait"))

    def __iadd__(self, other: Seconds) -> Seconds:
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Of all the time of all threads, by stage."""
        whole = sum(getattr(self, stage) for stage in STAGES)
        return {stage: getattr(self, stage) / whole if whole else 0.0 for stage in STAGES}


@dataclass
class Summary:
    """What a run came to.

    Args:
        num_inputs: All of them, those of an earlier part of the run too.
        num_predicted: Rows written.
        num_failures: Inputs that gave no row.
        num_resumed: Inputs of an earlier part of the run.
        num_labelled: Rows whose input came with a label of the model's.
        num_correct: Of these, rows of that label.
        failures: The first hundred inputs that gave no row; all are in the file beside the output.
        elapsed_s: Wall-clock seconds of this part of the run, from the first read to the last row.
        seconds: Of all threads, by stage.
        is_interrupted: Whether it was asked to stop before the end.
        plan: Batch size, streams and threads of the last inference.
        backend: What ran the model.
        placement: Which provider ran which of its nodes; None for PyTorch's formats.
    """

    num_inputs: int = 0
    num_predicted: int = 0
    num_failures: int = 0
    num_resumed: int = 0
    num_labelled: int = 0
    num_correct: int = 0
    failures: list[Failure] = field(default_factory=list)
    elapsed_s: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    is_interrupted: bool = False
    plan: Mapping[str, int] = field(default_factory=dict)
    backend: str = ""
    placement: Placement | None = None

    @property
    def images_per_s(self) -> float:
        """Throughput of this part of the run."""
        return (self.num_inputs - self.num_resumed) / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def described_plan(self) -> str:
        """For people."""
        return str(Plan(**self.plan)) if self.plan else ""

    @property
    def accuracy(self) -> float | None:
        """Of the rows whose input came with a label."""
        return self.num_correct / self.num_labelled if self.num_labelled else None

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(replace(self, placement=None)) | {
            "placement": self.placement and self.placement.to_json(),
            "images_per_s": self.images_per_s,
            "accuracy": self.accuracy,
            "shares": self.seconds.shares,
        }
