"""Row: the result of one candidate at one batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.instability import Instability
from onward.statistics import Interval

__all__ = ["DRAWN_PERCENT", "IMPRECISE", "MEASURED", "STATUSES", "Latency", "Row", "Stages"]

#: `imprecise`: outputs further from the reference than the parity gate allows; `wrong`: not the model's outputs at all.
MEASURED, IMPRECISE = "measured", "imprecise"
#: `skipped`: the benchmark was interrupted before the candidate's first sample.
STATUSES = (MEASURED, IMPRECISE, "wrong", "failed", "missing", "skipped")
#: Percentiles that charts draw.
DRAWN_PERCENT = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


@dataclass(frozen=True)
class Latency:
    """Percentiles of all timed inferences, in milliseconds.

    Args:
        median: 50 % took less.
        p90: 90 % took less.
        p99: 99 % took less.
        percentiles: Percent -> ms, for charts.
    """

    median: float
    p90: float
    p99: float
    percentiles: Mapping[int, float]

    @classmethod
    def of(cls, latencies_ms: NDArray[np.float32]) -> Latency:
        """The percentiles of single latencies."""
        values = np.percentile(latencies_ms.astype(np.float64), DRAWN_PERCENT)
        found = dict(zip(DRAWN_PERCENT, values.tolist(), strict=True))
        return cls(found[50], found[90], found[99], found)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; keys of percentiles are text there."""
        percentiles = {str(percent): value for percent, value in self.percentiles.items()}
        return {"median": self.median, "p90": self.p90, "p99": self.p99, "percentiles": percentiles}


@dataclass(frozen=True)
class Stages:
    """Stages of a cold start; medians over process runs.

    Args:
        process_s: Until the interpreter runs its first line.
        import_s: Importing the library.
        open_s: Reading the file, checking its digest, preparing the model.
        first_ms: The first inference at this batch size; at the smallest it is the first of the process.
        after_pause_ms: An inference after a pause, at the smallest batch size.
    """

    process_s: float
    import_s: float
    open_s: float
    first_ms: float | None
    after_pause_ms: float | None


@dataclass(frozen=True)
class Row:
    """The result of one candidate at one batch size.

    Args:
        candidate: The candidate.
        batch_size: Inputs per inference; 0 if none was timed.
        status: One of `STATUSES`.
        reason: Why it is not `measured`.
        name: What its backend calls itself, with the device.
        placement: Execution provider -> number of nodes that it runs.
        latency: Of the timed inferences; None if there were none.
        images_per_s: Batch size over the median latency.
        ratio: Speed relative to the reference, with its 95 % interval; None without a reference and for wrong outputs.
        instabilities: Why the figures are not reproducible.
        noise_ratio: The largest of the checked outputs, in units of PyTorch's own error; None for a lower precision.
        deviation_ratio: For a lower precision, the largest deviation of the checked outputs from those of the building
            machine, in units of the quantisation error.
        max_delta: Largest difference from the first candidate's outputs, over their largest value.
        num_labelled: Number of given inputs with a label.
        num_correct: Number of these that got their label.
        num_unanswered: Number of given inputs, or of those with known outputs, whose outputs are NaN or infinite.
        file_bytes: Size of the artifact.
        peak_bytes: The process's largest resident memory, up to this batch size.
        stages: Of the cold start.
        num_inferences: Number of timed inferences.
        num_warm_up: Number of warm-up inferences, the median over process runs.
        rounds_ms: Process run -> round -> the p10 latency: 10 % of the round's inferences took less.
    """

    candidate: Candidate
    batch_size: int
    status: str
    reason: str = ""
    name: str = ""
    placement: Mapping[str, int] | None = None
    latency: Latency | None = None
    images_per_s: float | None = None
    ratio: Interval | None = None
    instabilities: tuple[Instability, ...] = ()
    noise_ratio: float | None = None
    max_delta: float | None = None
    num_labelled: int = 0
    num_correct: int = 0
    num_unanswered: int = 0
    file_bytes: int | None = None
    peak_bytes: int | None = None
    stages: Stages | None = None
    num_inferences: int = 0
    num_warm_up: int = 0
    rounds_ms: Sequence[Sequence[float]] = ()
    deviation_ratio: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds_ms", tuple(map(tuple, self.rounds_ms)))  # rows of equal figures are equal

    @property
    def is_stable(self) -> bool:
        """Whether the figures are reproducible."""
        return self.latency is not None and not self.instabilities

    @property
    def is_correct(self) -> bool:
        """Whether it was timed and its outputs are the model's; they may be imprecise."""
        return self.status in (MEASURED, IMPRECISE)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled inputs that got their label."""
        return self.num_correct / self.num_labelled if self.num_labelled else None
