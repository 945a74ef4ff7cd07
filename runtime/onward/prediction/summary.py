"""Summary: what a run counted, and where its time went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

from onward.bundle import FLOAT32
from onward.prediction.tuner import Plan

if TYPE_CHECKING:
    from onward.backends.placement import Placement

__all__ = ["MAX_FAILURES_KEPT", "STAGES", "Counts", "Failure", "Seconds", "Summary"]

STAGES = ("read", "decode", "resize", "infer", "write", "wait")
MAX_FAILURES_KEPT = 100


@dataclass(frozen=True)
class Counts:
    """How many inputs a batch or a run has, and what came of them. Counts of two parts add up with `+`.

    Args:
        num_inputs: All inputs.
        num_predicted: Inputs with a row.
        num_labelled: Of these, inputs whose label the model knows.
        num_correct: Of these, inputs for which the model predicted that label.
        num_unanswered: Inputs that could be read, but for which the model's outputs are NaN or infinite.
        num_16_bit: Inputs whose file has 16 bits per value, of which the higher 8 were kept.
    """

    num_inputs: int = 0
    num_predicted: int = 0
    num_labelled: int = 0
    num_correct: int = 0
    num_unanswered: int = 0
    num_16_bit: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.num_inputs + other.num_inputs,
            self.num_predicted + other.num_predicted,
            self.num_labelled + other.num_labelled,
            self.num_correct + other.num_correct,
            self.num_unanswered + other.num_unanswered,
            self.num_16_bit + other.num_16_bit,
        )

    @property
    def num_failures(self) -> int:
        """Inputs without a row."""
        return self.num_inputs - self.num_predicted

    @property
    def num_unreadable(self) -> int:
        """Of these, inputs that could not be read."""
        return self.num_failures - self.num_unanswered

    @property
    def accuracy(self) -> float | None:
        """The share of labelled inputs that are correct; None without a label."""
        return self.num_correct / self.num_labelled if self.num_labelled else None


@dataclass(frozen=True)
class Failure:
    """An input without a row: its name, the stage that failed, and the reason."""

    input: str
    stage: str
    reason: str


@dataclass
class Seconds:
    """Time of all threads by stage, in seconds.

    `read` includes decompressing archives. `wait` is the rest: waiting for another thread, or for the disk.
    """

    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    infer: float = 0.0
    write: float = 0.0
    wait: float = 0.0

    def add(self, stage: str, since: float) -> float:
        """Add the time since `since` to a stage, and return the present time."""
        now = perf_counter()
        setattr(self, stage, getattr(self, stage) + now - since)
        return now

    def set_wait(self, total: float) -> None:
        """Set `wait` to what the other stages leave of the total time of all threads."""
        self.wait = max(0.0, total - sum(getattr(self, stage) for stage in STAGES if stage != "wait"))

    def __iadd__(self, other: Seconds) -> Seconds:
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))
        return self

    @property
    def shares(self) -> dict[str, float]:
        """Each stage's share of the total time of all threads."""
        total = sum(getattr(self, stage) for stage in STAGES)
        return {stage: getattr(self, stage) / total if total else 0.0 for stage in STAGES}


@dataclass
class Summary:
    """The result of a run.

    Args:
        counts: All inputs, including those that an earlier, interrupted run completed.
        num_resumed: Inputs that an earlier run completed.
        failures: The first hundred inputs without a row; the file beside the output lists all of them.
        elapsed_s: Wall-clock seconds of this run, from the first read to the last row.
        seconds: Time of all threads, by stage.
        is_interrupted: Whether the run was stopped before the end.
        was_finished: Whether an earlier run had finished this output, so that nothing was left to do.
        plan: Batch size, streams and threads of the last inference.
        backend: Name of the backend.
        placement: The nodes that each provider ran; None for PyTorch's formats.
        left_alone: Suffix -> how many files of folders and archives were not read.
        artifact: Name of the artifact.
        precision: Of the artifact.
    """

    counts: Counts = field(default_factory=Counts)
    num_resumed: int = 0
    failures: list[Failure] = field(default_factory=list)
    elapsed_s: float = 0.0
    seconds: Seconds = field(default_factory=Seconds)
    is_interrupted: bool = False
    was_finished: bool = False
    plan: Mapping[str, int] = field(default_factory=dict)
    backend: str = ""
    placement: Placement | None = None
    left_alone: Mapping[str, int] = field(default_factory=dict)
    artifact: str = ""
    precision: str = ""

    @property
    def images_per_s(self) -> float:
        """Throughput of this run."""
        return (self.counts.num_inputs - self.num_resumed) / self.elapsed_s if self.elapsed_s else 0.0

    def describe_plan(self) -> str:
        """The plan as a phrase."""
        return str(Plan(**self.plan)) if self.plan else ""

    def describe_backend(self) -> str:
        """The backend, with the precision of the artifact where it is lower than float32: `onnx (CPU) in int8`."""
        return self.backend if self.precision in ("", FLOAT32) else f"{self.backend} in {self.precision}"

    def to_json(self) -> dict[str, Any]:
        """All figures as plain data."""
        return {
            "num_inputs": self.counts.num_inputs,
            "num_predicted": self.counts.num_predicted,
            "num_failures": self.counts.num_failures,
            "num_unreadable": self.counts.num_unreadable,
            "num_unanswered": self.counts.num_unanswered,
            "num_resumed": self.num_resumed,
            "num_labelled": self.counts.num_labelled,
            "num_correct": self.counts.num_correct,
            "num_16_bit": self.counts.num_16_bit,
            "left_alone": dict(self.left_alone),
            "failures": [asdict(failure) for failure in self.failures],
            "elapsed_s": self.elapsed_s,
            "seconds": asdict(self.seconds),
            "is_interrupted": self.is_interrupted,
            "was_finished": self.was_finished,
            "plan": dict(self.plan),
            "artifact": self.artifact,
            "precision": self.precision,
            "backend": self.backend,
            "placement": self.placement and self.placement.to_json(),
            "images_per_s": self.images_per_s,
            "accuracy": self.counts.accuracy,
            "shares": self.seconds.shares,
        }
