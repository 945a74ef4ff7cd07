from __future__ import annotations

import random
from dataclasses import replace

import pytest

from onward.benchmarking.schedule import BenchStep, Schedule
from onward.benchmarking.spec import BenchOptions

OPTIONS = BenchOptions(batch_sizes=(1, 8), num_process_runs=3, num_rounds=30)


class Machine:
    """Runs the steps of a benchmark on a clock of its own, and notes how far the estimates are from the end.

    Args:
        latencies_s: Of each candidate, at batch 1; in proportion at others.
        start_s: Of a candidate's start.
        first_times: How many times as long the warm-ups of the first process run take: they compile.
    """

    def __init__(self, latencies_s: list[float], start_s: float = 2.0, first_times: float = 1.0) -> None:
        self.latencies_s, self.start_s, self.first_times = latencies_s, start_s, first_times
        self.now = 0.0
        self.estimates: list[tuple[float, float]] = []
        self.random = random.Random(0)

    def run(self, options: BenchOptions, num_with_files: int = 0) -> Schedule:
        count = len(self.latencies_s)
        schedule = Schedule(count, num_with_files, options.batch_sizes, options, clock=lambda: self.now)
        schedule.begin()
        for number in range(options.num_process_runs):
            self.each(schedule, BenchStep("start"), self.start_s)
            if not number:
                self.each(schedule, BenchStep("outputs"), 0.3)
            for size in options.batch_sizes:
                for latency in self.latencies_s:
                    seconds = max(0.5, 10 * latency * size) * (1 if number else self.first_times)
                    self.take(schedule, BenchStep("warm-up", size, latency * size), seconds)
                self.take_rounds(schedule, size, options)
            self.each(schedule, BenchStep("idle"), options.pause_s + 0.2)
        for _ in range(options.num_process_runs * num_with_files):
            self.take(schedule, BenchStep("files"), 3.0)
        return schedule

    def each(self, schedule: Schedule, step: BenchStep, seconds: float) -> None:
        for _ in self.latencies_s:
            self.take(schedule, step, seconds)

    def take_rounds(self, schedule: Schedule, size: int, options: BenchOptions) -> None:
        samples = [max(options.sample_s, 2 * latency * size) for latency in self.latencies_s]
        waking = [max(0.005, 2 * latency * size) for latency in self.latencies_s]
        for number in range(options.num_rounds):
            is_over = number >= 7 and number * min(samples) >= options.budget_s
            self.take(schedule, BenchStep("round", size), 0.0 if is_over else sum(samples) + sum(waking) + 0.01)

    def take(self, schedule: Schedule, step: BenchStep, seconds: float) -> None:
        self.now += seconds * self.random.uniform(0.8, 1.2)
        schedule.finish(step)
        self.estimates.append((self.now, schedule.left_s))

    def errors(self) -> list[tuple[float, float]]:
        """(share of the time that has passed, error of the estimate over all of the time)."""
        return [(at / self.now, abs(self.now - at - left) / self.now) for at, left in self.estimates]


@pytest.mark.parametrize(
    "machine",
    [
        pytest.param(Machine([0.0002, 0.0001, 0.00005]), id="a small model"),
        pytest.param(Machine([0.05, 0.03]), id="a large model, whose rounds end early"),
        pytest.param(Machine([0.3]), id="one candidate, slower still"),
        pytest.param(Machine([0.001] * 7, start_s=8.0), id="a loaded machine"),
    ],
)
def test_the_time_left_is_right_soon(machine: Machine) -> None:
    """From a tenth of the time on it is wrong by less than a quarter of the whole, in the second half by a tenth."""
    schedule = machine.run(OPTIONS, num_with_files=1)
    assert schedule.left_s == 0
    assert max(error for at, error in machine.errors() if at > 0.1) < 0.25
    assert max(error for at, error in machine.errors() if at > 0.5) < 0.1


def test_what_is_compiled_once_is_not_expected_again() -> None:
    """The first process run compiles, for most of the time; from the second on, the one before is what is expected."""
    machine = Machine([0.001, 0.001], first_times=40.0)
    options = replace(OPTIONS, num_process_runs=5)
    schedule = machine.run(options)
    per_run = (schedule.num_steps - 2) // 5  # outputs are compared in the first one only
    at, left = machine.estimates[2 * per_run + 1]
    assert left == pytest.approx(machine.now - at, rel=0.1)
    at, left = machine.estimates[per_run + 1]
    assert left > 2 * (machine.now - at)


def test_the_time_left_falls_while_a_step_is_under_way_but_not_below_the_others() -> None:
    machine = Machine([0.001])
    schedule = Schedule(1, 0, (1,), replace(OPTIONS, num_process_runs=1), clock=lambda: machine.now)
    schedule.begin()
    before = schedule.left_s
    machine.now += 1.0
    assert schedule.left_s == pytest.approx(before - 1.0)
    machine.now += 100.0  # the start alone cannot take more off than it was expected to take
    assert before - 3.0 < schedule.left_s < before - 1.0


def test_steps_that_are_left_out_are_not_waited_for() -> None:
    schedule = Schedule(2, 2, (1,), OPTIONS, clock=lambda: 0.0)
    before = schedule.num_steps, schedule.left_s
    schedule.leave_out(BenchStep("files"), 1)
    assert before[0] - schedule.num_steps == OPTIONS.num_process_runs
    assert schedule.left_s < before[1]
    schedule.leave_out(BenchStep("files"), 1)
    assert before[0] - schedule.num_steps == 2 * OPTIONS.num_process_runs
