"""Row: what a competitor came to at one batch size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.competitor import Competitor
from onward.benchmarking.stability import Instability
from onward.intervals import Interval

__all__ = ["MEASURED", "STATUSES", "Latency", "Row", "Stages"]

#: `imprecise`: further from the mathematics than the gate lets an artifact be; `wrong`: not the model's outputs at all.
MEASURED, IMPRECISE = "measured", "imprecise"
#: `unreached`: the run was ended before its first turn.
STATUSES = (MEASURED, IMPRECISE, "wrong", "failed", "missing", "unreached")
#: Of the latencies that a report draws.
DRAWN_PERCENT = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


@dataclass(frozen=True)
class Latency:
    """Of all timed inferences, in milliseconds.

    Args:
        median: Half of them took less.
        p90: 90 % took less.
        p99: 99 % took less.
        percentiles: Percent -> ms, for a picture.
    """

    median: float
    p90: float
    p99: float
    percentiles: Mapping[int, float]

    @classmethod
    def of(cls, latencies_ms: NDArray[np.float32]) -> Latency:
        """Of single latencies."""
        values = np.percentile(latencies_ms.astype(np.float64), DRAWN_PERCENT)
        found = dict(zip(DRAWN_PERCENT, values.tolist(), strict=True))
        return cls(found[50], found[90], found[99], found)

    def to_json(self) -> dict[str, Any]:
        """The figures; percentiles by their number as text."""
        percentiles = {str(percent): value for percent, value in self.percentiles.items()}
        return {"median": self.median, "p90": self.p90, "p99": self.p99, "percentiles": percentiles}


@dataclass(frozen=True)
class Stages:
    """From nothing to a steady state; medians over launches.

    Args:
        process_s: Until the interpreter runs the first line.
        import_s: The library.
        open_s: Reading the file, checking its digest, preparing the model.
        first_ms: The first inference at this batch size; at the smallest, the first of the process.
        idle_ms: An inference after a pause, at the smallest batch size.
    """

    process_s: float
    import_s: float
    open_s: float
    first_ms: float | None
    idle_ms: float | None


@dataclass(frozen=True)
class Row:
    """What a competitor came to at one batch size.

    Args:
        competitor: Which one.
        batch_size: Samples an inference.
        status: Of `STATUSES`.
        reason: Why it is not `measured`.
        name: What its backend says that it is.
        placement: Execution provider -> nodes that it runs.
        latency: Of the timed inferences; None where there were none.
        images_per_s: Batch size over the median.
        ratio: How many times as fast as the reference, with its 95 % interval; None without one, and of wrong answers.
        instabilities: Why the figures would not be the same again.
        noise_ratio: The worst of the timed outputs that were looked at, in PyTorch's own error.
        max_delta: Largest difference from the first competitor's outputs, over their largest value.
        num_labelled: Labelled samples.
        num_correct: Of these, right ones.
        file_bytes: Of the artifact.
        peak_bytes: The most memory that the process ever had, up to this batch size.
        stages: From nothing to here.
        num_inferences: Timed ones.
        num_warm_up: Inferences until the level had settled, the median over launches.
        rounds_ms: Launch -> round -> the quiet level of its latencies: a tenth of them are no longer.
    """

    competitor: Competitor
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
    file_bytes: int | None = None
    peak_bytes: int | None = None
    stages: Stages | None = None
    num_inferences: int = 0
    num_warm_up: int = 0
    rounds_ms: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds_ms", tuple(map(tuple, self.rounds_ms)))  # rows of equal figures are equal

    @property
    def is_stable(self) -> bool:
        """Whether the figures would be the same again."""
        return self.latency is not None and not self.instabilities

    @property
    def is_right(self) -> bool:
        """Whether it was timed and its outputs are the model's, be they imprecise."""
        return self.status in (MEASURED, IMPRECISE)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled samples that got their label."""
        return self.num_correct / self.num_labelled if self.num_labelled else None
