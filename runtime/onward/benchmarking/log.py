"""Log: what was seen of one competitor, launch by launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.benchmarking.competitor import Competitor
from onward.benchmarking.settling import Settled
from onward.benchmarking.turn import Turn

__all__ = ["Launch", "Log"]


@dataclass
class Launch:
    """What was seen of one process.

    Args:
        stages: Seconds: `process_s`, `import_s`, `open_s`.
        first_ms: Batch size -> the first inference at it; that of the smallest is the first of all.
        settled: Batch size -> how the warm-up went.
        turns: Batch size -> turn after turn.
        idle_ms: The first inference after a pause, of the smallest batch.
        busy_cores: Taken while nothing was asked for.
        num_threads: Of the process, at rest, after everything.
    """

    stages: Mapping[str, float]
    first_ms: dict[int, float] = field(default_factory=dict)
    settled: dict[int, Settled] = field(default_factory=dict)
    turns: dict[int, list[Turn]] = field(default_factory=dict)
    idle_ms: float | None = None
    busy_cores: float | None = None
    num_threads: int | None = None


@dataclass
class Log:
    """What was seen of one competitor.

    Args:
        competitor: Which one.
        name: What it says that it is, and runs on.
        placement: Execution provider -> how many nodes it runs, for onnxruntime.
        launches: In order.
        failure: Why it was timed no further; empty for no reason.
        is_missing: Whether that is because something is not installed.
        max_delta: Largest difference of its outputs from the first competitor's, over their largest value.
        num_labelled: Labelled samples that it was asked about.
        num_correct: Of these.
    """

    competitor: Competitor
    name: str = ""
    placement: Mapping[str, int] | None = None
    launches: list[Launch] = field(default_factory=list)
    failure: str = ""
    is_missing: bool = False
    max_delta: float | None = None
    num_labelled: int = 0
    num_correct: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether it is to be timed further."""
        return not self.failure

    def turns(self, batch_size: int) -> list[list[Turn]]:
        """Launch -> turns at a batch size, of the launches that have any."""
        return [launch.turns[batch_size] for launch in self.launches if launch.turns.get(batch_size)]

    def opened(self, answer: Mapping[str, Any]) -> Launch:
        """Begin a launch with what its process said of itself."""
        self.name, self.placement = answer["name"], answer["placement"]
        stages = {stage: answer[stage] for stage in ("process_s", "import_s", "open_s")}
        self.launches.append(Launch(stages))
        return self.launches[-1]
