"""Runner: measures every candidate in a process of its own, in interleaved rounds, over several process runs."""

from __future__ import annotations

import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.candidate import Candidate
from onward.benchmarking.given_inputs import GivenInputs
from onward.benchmarking.measurements import Measurements, ProcessRun, Recording
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.process import CandidateError, Interrupted, WorkerProcess
from onward.benchmarking.sample import Sample
from onward.benchmarking.schedule import IDLE_S, MIN_ROUNDS, BenchStep
from onward.benchmarking.spec import BenchOptions
from onward.benchmarking.warm_up import WarmUp

__all__ = ["probe_speed_ms", "run"]

LABELLED_BATCH = 32


def run(
    models: Mapping[str, ModelUnderTest],
    candidates: Sequence[Candidate],
    options: BenchOptions,
    *,
    given: GivenInputs | None = None,
    on_step: Callable[[BenchStep], None] = lambda step: None,
    stop: Callable[[], bool] = lambda: False,
) -> Measurements:
    """Measure candidates.

    For each process run, every candidate gets a new process. Then, for each batch size, all warm up, and take samples
    in rounds, each round in a new random order. All other processes are stopped meanwhile, so that their threads,
    allocators and imports cannot disturb the measured one.

    Args:
        models: Target -> the model.
        candidates: At least one; the others' outputs are compared with the first's.
        options: How to measure.
        given: Inputs from the user.
        on_step: Called after each step, and at once for those of candidates that have failed.
        stop: Whether to end; what was measured so far is kept.
    """
    digests = {target: model.digest for target, model in models.items()}
    measurements = Measurements([Recording(candidate) for candidate in candidates], digests)
    with suppress(Interrupted), tempfile.TemporaryDirectory() as folder:
        for number in range(options.num_process_runs):
            with ExitStack() as stack:
                runs = _ProcessRuns(models, measurements, options, given or GivenInputs(), number, on_step, stop, stack)
                runs.measure(Path(folder))
    measurements.is_complete = not stop()
    return measurements


@dataclass
class _ProcessRuns:
    """One process run of every candidate.

    Args:
        models: Target -> the model.
        measurements: Gets what is measured.
        options: How to measure.
        given: Inputs from the user.
        number: Of the process run, from 0.
        on_step: Called after each step.
        stop: Whether to end.
        stack: Ends the processes.
        processes: Position of the candidate -> its process.
    """

    models: Mapping[str, ModelUnderTest]
    measurements: Measurements
    options: BenchOptions
    given: GivenInputs
    number: int
    on_step: Callable[[BenchStep], None]
    stop: Callable[[], bool]
    stack: ExitStack
    processes: dict[int, WorkerProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.options.seed} {self.number}")

    def measure(self, folder: Path) -> None:
        """Start all processes, measure, and leave them to be ended.

        Args:
            folder: For temporary files.
        """
        self.measurements.speed_probe_ms.append({})
        self._let_each("start", self._start)
        if not self.number:
            self._compare_outputs(folder)
        for batch_size in self._all_batch_sizes():
            self._let_each("warm-up", partial(self._warm_up, batch_size=batch_size), batch_size)
            self._take_rounds(batch_size)
        self._let_each("idle", self._measure_idling)

    def _let_each(self, kind: str, measure: Callable[[Recording, int], float | None], batch_size: int = 0) -> None:
        """Let each candidate take a step, one after the other; `measure` may return its latency."""
        order = self._shuffled()
        for at, recording in order:
            latency_s = None
            with self._recording_failure(recording):
                latency_s = measure(recording, at)
            self.on_step(BenchStep(kind, batch_size, latency_s))
        for _ in range(len(order), len(self.measurements.recordings)):
            self.on_step(BenchStep(kind, batch_size))

    def _shuffled(self) -> list[tuple[int, Recording]]:
        """The candidates that have not failed, with their positions, in a new random order."""
        working = [(at, item) for at, item in enumerate(self.measurements.recordings) if not item.failure]
        return self.random.sample(working, len(working))

    @contextmanager
    def _recording_failure(self, recording: Recording) -> Iterator[None]:
        """A candidate that fails is not measured any further; the others continue."""
        if self.stop():
            raise Interrupted("interrupted.")
        try:
            yield
        except CandidateError as error:
            recording.failure = str(error)

    def _all_batch_sizes(self) -> list[int]:
        return sorted({size for item in self.measurements.recordings for size in self._batch_sizes(item)})

    def _batch_sizes(self, recording: Recording) -> Sequence[int]:
        fixed = self.models[recording.candidate.target].fixed_batch
        return self.options.batch_sizes if fixed is None else (fixed,)

    def _start(self, recording: Recording, at: int) -> None:
        candidate = recording.candidate
        process = WorkerProcess(candidate.threads, timeout_s=self.options.timeout_s, stop=self.stop)
        self.stack.callback(process.close)
        self.processes[at] = process
        response = process.request(
            "open",
            candidate=candidate.to_json(),
            sizes=dict(self.models[candidate.target].sizes),
            trust=self.models[candidate.target].trust.to_json(),
            given=self.given.folder,
            spawned=process.spawned,
            digest=self.measurements.digests[candidate.target],
        )
        self._first_inference(recording.add_process_run(response), at, self._batch_sizes(recording)[0])

    def _first_inference(self, process_run: ProcessRun, at: int, batch_size: int) -> None:
        if batch_size not in process_run.first_ms:
            process = self.processes[at]
            response = process.request("first_inference", batch_size=batch_size, seed=self._seed(batch_size))
            process_run.first_ms[batch_size] = response["first_ms"]

    def _compare_outputs(self, folder: Path) -> None:
        """Compare the candidates' outputs with one another, and with the labels of the given inputs."""
        self._let_each("outputs", partial(self._save_outputs, folder=folder))
        _record_max_deltas(self.measurements.recordings, self.models, folder)

    def _save_outputs(self, recording: Recording, at: int, *, folder: Path) -> None:
        self.processes[at].request("save_outputs", path=str(folder / f"{at}.npz"))
        response = self.processes[at].request("count_answers", labels=self.given.labels, batch_size=LABELLED_BATCH)
        recording.num_labelled, recording.num_correct = response["num_labelled"], response["num_correct"]
        recording.num_unanswered = response["num_unanswered"]

    def _warm_up(self, recording: Recording, at: int, *, batch_size: int) -> float | None:
        """Warm a candidate up; gives its latency."""
        if batch_size not in self._batch_sizes(recording):
            return None
        process_run = recording.process_runs[-1]
        self._first_inference(process_run, at, batch_size)
        response = self.processes[at].request(
            "warm_up", batch_size=batch_size, max_s=self.options.max_warm_up_s, seed=self._seed(batch_size)
        )
        process_run.warm_ups[batch_size] = found = WarmUp(**response)
        return found.seconds / found.num_inferences

    def _take_rounds(self, batch_size: int) -> None:
        number = 0
        while number < self.options.num_rounds and not self._has_used_budget(batch_size, number):
            self.measurements.speed_probe_ms[-1].setdefault(batch_size, []).append(probe_speed_ms())
            for at, recording in self._shuffled():
                if batch_size in self._batch_sizes(recording):
                    with self._recording_failure(recording):
                        self._take_sample(recording.process_runs[-1], at, batch_size, number)
            self.on_step(BenchStep("round", batch_size))
            number += 1
        for _ in range(number, self.options.num_rounds):
            self.on_step(BenchStep("round", batch_size))

    def _has_used_budget(self, batch_size: int, num_rounds: int) -> bool:
        """Whether every candidate has enough rounds and enough seconds of samples."""
        seconds = [
            sum(sample.wall_s for sample in item.process_runs[-1].samples[batch_size])
            for item in self.measurements.recordings
            if not item.failure and batch_size in item.process_runs[-1].samples
        ]
        return num_rounds >= MIN_ROUNDS and min(seconds, default=math.inf) >= self.options.budget_s

    def _take_sample(self, process_run: ProcessRun, at: int, batch_size: int, number: int) -> None:
        response = self.processes[at].request(
            "sample", batch_size=batch_size, sample_s=self.options.sample_s, seed=self._seed(batch_size, number)
        )
        process_run.samples.setdefault(batch_size, []).append(Sample.from_json(response))

    def _measure_idling(self, recording: Recording, at: int) -> None:
        process_run, process = recording.process_runs[-1], self.processes[at]
        smallest = self._batch_sizes(recording)[0]
        process_run.after_pause_ms = process.request(
            "inference_after_pause", batch_size=smallest, pause_s=self.options.pause_s, seed=self._seed(smallest)
        )["after_pause_ms"]
        process_run.busy_cores = process.request("idle", seconds=IDLE_S)["busy_cores"]

    def _seed(self, *numbers: int) -> int:
        """A different seed for each process run, batch size and round; the same for all candidates."""
        return int(np.random.SeedSequence([self.options.seed, self.number, *numbers]).generate_state(1)[0])


def _record_max_deltas(recordings: Sequence[Recording], models: Mapping[str, ModelUnderTest], folder: Path) -> None:
    """Compare each candidate's outputs with those of the first candidate that got the same inputs."""
    firsts: dict[str, list[NDArray[Any]]] = {}
    for at, recording in enumerate(recordings):
        path = folder / f"{at}.npz"
        if not path.exists():
            continue
        with np.load(path) as archive:
            outputs = [archive[name] for name in sorted(archive)]
        first = firsts.setdefault(models[recording.candidate.target].input_key, outputs)
        recording.max_delta = _max_delta(outputs, first)


def _max_delta(outputs: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Largest difference over the expected output's largest value; infinite for another shape or a NaN."""
    if [item.shape for item in outputs] != [item.shape for item in expected]:
        return math.inf
    deltas = (
        np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0) / (np.abs(b).max(initial=0) or 1)
        for a, b in zip(outputs, expected, strict=True)
    )
    worst = float(max(deltas, default=0.0))
    return worst if math.isfinite(worst) else math.inf


#: Steps of Python's interpreter, with branches: other tenants slow them down more than arithmetic in a loop (1.6 times
#: against 1.2 times, where PyTorch became 1.7 times slower).
NUM_STEPS = 300
PROBE_S = 0.002
#: Cores that are probed; a machine with many cores has other work for its tenants.
MAX_CORES = 4


def probe_speed_ms() -> float:
    """The speed of the machine at the moment: milliseconds of 300 steps of Python's interpreter, on the slowest of some
    cores.
    """
    with _pin_to_each_core() as cores:
        return max(_probe_s() for _ in cores) * 1e3


def _probe_s() -> float:
    """Median seconds of the piece of work."""
    latencies: list[float] = []
    now = time.perf_counter()
    end = now + PROBE_S
    while now < end:
        before = now
        _work()
        now = time.perf_counter()
        latencies.append(now - before)
    return statistics.median(latencies)


def _work() -> int:
    total = 0
    for step in range(NUM_STEPS):
        total += step * step if step % 3 else len(str(step))
    return total


@contextmanager
def _pin_to_each_core() -> Iterator[Iterator[int]]:
    """Cores; this thread is pinned to each while it is the current one. Without affinity, a single unpinned core."""
    if not hasattr(os, "sched_setaffinity"):
        yield iter((0,))
        return
    allowed = os.sched_getaffinity(0)

    def pin() -> Iterator[int]:
        for core in sorted(allowed)[:MAX_CORES]:
            os.sched_setaffinity(0, {core})
            yield core

    try:
        yield pin()
    finally:
        os.sched_setaffinity(0, allowed)
