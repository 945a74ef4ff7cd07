"""Schedule: the steps of a benchmark, and how long the rest of them will take.

Process runs are alike: from the second on, the one before says how long each step takes. In the first one, finished
steps say it for others of their kind. The latency at a batch size, which the warm-up gives, says how long a round takes
and how many there will be. At a batch size that is larger by a factor, a latency is expected to be longer by its square
root: a large model's grows by the factor, a small one's hardly.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onward.benchmarking.sample import MIN_INFERENCES, MIN_WAKES, WAKE_S
from onward.benchmarking.spec import BenchOptions

__all__ = ["IDLE_S", "MIN_ROUNDS", "BenchStep", "Schedule"]

#: Rounds that are taken even if the budget is used up.
MIN_ROUNDS = 7
#: Seconds for which an idle process is watched, and as long before that.
IDLE_S = 0.1
#: Seconds of a step before any of its kind was seen.
GUESSES_S = {"start": 2.0, "outputs": 0.5, "warm-up": 0.6, "files": 4.0}
#: What comes with each sample: checking outputs, passing the figures on.
OVERHEAD_S = 0.01


@dataclass(frozen=True)
class BenchStep:
    """One step.

    Args:
        kind: `start`, `outputs`, `warm-up`, `round`, `idle` or `files`.
        batch_size: Of a warm-up or a round.
        latency_s: After a warm-up, the candidate's latency.
    """

    kind: str
    batch_size: int = 0
    latency_s: float | None = field(default=None, compare=False)


class Schedule:
    """The steps that were done, and those that are left.

    Args:
        num_candidates: Candidates that are measured.
        num_with_files: Those of them that `predict` is measured with.
        batch_sizes: Inputs per inference.
        options: How to measure.
        clock: In seconds.
    """

    def __init__(
        self,
        num_candidates: int,
        num_with_files: int,
        batch_sizes: Sequence[int],
        options: BenchOptions,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.num_candidates, self.options, self.clock = num_candidates, options, clock
        self.batch_sizes = tuple(sorted(batch_sizes))
        #: BenchStep -> how often in a process run; comparing outputs is done in the first one only.
        self.counts = {BenchStep("start"): num_candidates, BenchStep("outputs"): num_candidates}
        for size in self.batch_sizes:
            self.counts |= {BenchStep("warm-up", size): num_candidates, BenchStep("round", size): options.num_rounds}
        self.counts |= {BenchStep("idle"): num_candidates, BenchStep("files"): num_with_files}
        self._seconds: dict[BenchStep, list[float]] = {step: [] for step in self.counts}
        self._latencies_s: dict[int, list[float]] = {}
        self.begin()

    @property
    def num_steps(self) -> int:
        """Number of all steps, of those too that turn out to be unnecessary."""
        return sum(count * self._num_runs(step) for step, count in self.counts.items())

    def begin(self) -> None:
        """Start the clock."""
        self._last = self.clock()
        self._estimate()

    def finish(self, step: BenchStep) -> None:
        """Count a step as done."""
        now = self.clock()
        self._seconds[step].append(now - self._last)
        self._last = now
        if step.latency_s is not None:
            self._latencies_s.setdefault(step.batch_size, []).append(step.latency_s)
        self._estimate()

    def leave_out(self, step: BenchStep, count: int) -> None:
        """Take so many of a step out of each process run; none of it was done yet."""
        self.counts[step] -= count
        self._estimate()

    @property
    def left_s(self) -> float:
        """Seconds until the end, by what is known now; may be read by another thread."""
        return max(self._total_left_s - min(self.clock() - self._last, self._next_s), 0.0)

    def _estimate(self) -> None:
        lefts = [self._left(step) for step in self.counts]
        self._next_s = next((of_next for total, of_next in lefts if total), 0.0)
        self._total_left_s = sum(total for total, _ in lefts)

    def _num_runs(self, step: BenchStep) -> int:
        return 1 if step.kind == "outputs" else self.options.num_process_runs

    def _left(self, step: BenchStep) -> tuple[float, float]:
        """Seconds of a step's repetitions that are left, all together and of the next one."""
        done, count, num_runs = self._seconds[step], self.counts[step], self._num_runs(step)
        number, at = divmod(len(done), count) if count else (num_runs, 0)
        if number >= num_runs:
            return 0.0, 0.0
        if number:
            before = done[(number - 1) * count : number * count]
            return sum(before[at:]) + (num_runs - number - 1) * sum(before), before[at]
        each = statistics.fmean(done) if done else self._guess(step)
        rest = max(self._expected_count(step) - at, 0) * each
        return rest + (num_runs - 1) * (sum(done) + rest), each

    def _expected_count(self, step: BenchStep) -> int:
        """How often a step takes time in a process run: rounds end early once every candidate has used its budget."""
        if step.kind != "round":
            return self.counts[step]
        sample_s = min(map(self._sample_s, self._expected_latencies(step.batch_size)))
        num_rounds = math.ceil(self.options.budget_s / sample_s)
        return min(max(num_rounds, MIN_ROUNDS), self.options.num_rounds)

    def _guess(self, step: BenchStep) -> float:
        if step.kind == "idle":
            return self.options.pause_s + 2 * IDLE_S
        if step.kind == "round":
            return sum(
                self._sample_s(latency) + max(WAKE_S, MIN_WAKES * latency) + OVERHEAD_S
                for latency in self._expected_latencies(step.batch_size)
            )
        alike = [item for other, found in self._seconds.items() if other.kind == step.kind for item in found]
        return statistics.fmean(alike) if alike else GUESSES_S[step.kind]

    def _sample_s(self, latency_s: float) -> float:
        return max(self.options.sample_s, MIN_INFERENCES * latency_s)

    def _expected_latencies(self, batch_size: int) -> list[float]:
        """Of each candidate; where there are none yet, from those at the largest batch size below."""
        known = [size for size in self._latencies_s if size <= batch_size]
        if not known:
            return [0.0] * self.num_candidates
        return [latency * math.sqrt(batch_size / max(known)) for latency in self._latencies_s[max(known)]]
