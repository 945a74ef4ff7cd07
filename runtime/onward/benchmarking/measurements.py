"""Measurements: everything that a run measured, by candidate (`Recording`) and by process (`ProcessRun`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.sample import Sample
from onward.benchmarking.warm_up import WarmUp

__all__ = ["STAGES", "Measurements", "ProcessRun", "Recording"]

#: Stages before the first inference, in seconds.
STAGES = ("process_s", "import_s", "open_s")


@dataclass
class ProcessRun:
    """What one process of a candidate measured.

    Args:
        stages: Stage, one of `STAGES` -> seconds.
        first_ms: Batch size -> the first inference at it; at the smallest it is the first of all.
        warm_ups: Batch size -> how the warm-up went.
        samples: Batch size -> sample, round by round.
        after_pause_ms: An inference after a pause, at the smallest batch size.
        busy_cores: Cores that the process kept busy while idle.
    """

    stages: Mapping[str, float]
    first_ms: dict[int, float] = field(default_factory=dict)
    warm_ups: dict[int, WarmUp] = field(default_factory=dict)
    samples: dict[int, list[Sample]] = field(default_factory=dict)
    after_pause_ms: float | None = None
    busy_cores: float | None = None


@dataclass
class Recording:
    """What was measured of one candidate.

    Args:
        candidate: The candidate.
        name: What its backend calls itself, with the device.
        placement: Execution provider -> number of nodes that it runs, for onnxruntime.
        process_runs: In order.
        failure: Why measuring ended early; empty if it did not.
        max_delta: Largest difference of its outputs from the first candidate's, over their largest value.
        num_labelled: Number of given inputs with a label.
        num_correct: Number of these that got their label.
        num_unanswered: Number of given inputs, or of those with known outputs, whose outputs are NaN or infinite.
    """

    candidate: Candidate
    name: str = ""
    placement: Mapping[str, int] | None = None
    process_runs: list[ProcessRun] = field(default_factory=list)
    failure: str = ""
    max_delta: float | None = None
    num_labelled: int = 0
    num_correct: int = 0
    num_unanswered: int = 0

    def samples(self, batch_size: int) -> list[list[Sample]]:
        """Process run -> samples at a batch size, for those process runs that have any."""
        return [run.samples[batch_size] for run in self.process_runs if run.samples.get(batch_size)]

    def add_process_run(self, response: Mapping[str, Any]) -> ProcessRun:
        """Start a process run with what its worker responded to `open`."""
        self.name, self.placement = response["name"], response["placement"]
        self.process_runs.append(ProcessRun({stage: response[stage] for stage in STAGES}))
        return self.process_runs[-1]


@dataclass
class Measurements:
    """What a run measured.

    Args:
        recordings: One for each candidate, in their order.
        digests: Target -> digest of the model before the first process started.
        speed_probe_ms: Process run -> batch size -> round -> the machine's speed probe.
        is_complete: False if the run was interrupted.
    """

    recordings: list[Recording]
    digests: Mapping[str, str]
    speed_probe_ms: list[dict[int, list[float]]] = field(default_factory=list)
    is_complete: bool = True
