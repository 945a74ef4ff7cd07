"""Level: how fast this machine is at the moment, by a fixed piece of work on each of some cores.

Run: every competitor in a process of its own, in interleaved rounds, over several launches.
"""

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
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.inputs import Supply
from onward.benchmarking.measurement import Launch, Log, Turn
from onward.benchmarking.model import Subject
from onward.benchmarking.process import CompetitorError, Interrupted, Process
from onward.benchmarking.spec import Competitor, Options
from onward.benchmarking.warm_up import Settled

__all__ = ["Course", "look_at_level", "run"]


#: Steps of the interpreter, branches and all: they feel a neighbour more than arithmetic in a loop does (1.6 times as
#: long against 1.2 times, where PyTorch took 1.7 times as long).
NUM_STEPS = 300
PROBE_S = 0.002
#: Cores that are looked at. A machine of many has other work for its neighbours.
MAX_CORES = 4


def look_at_level() -> float:
    """Milliseconds that 300 steps of Python's interpreter take, on the slowest core that was looked at."""
    with _cores_in_turn() as cores:
        return max(_probe() for _ in cores) * 1e3


def _probe() -> float:
    """Seconds that the piece of work takes."""
    taken: list[float] = []
    now = time.perf_counter()
    end = now + PROBE_S
    while now < end:
        before = now
        _work()
        now = time.perf_counter()
        taken.append(now - before)
    return statistics.median(taken)


def _work() -> int:
    total = 0
    for step in range(NUM_STEPS):
        total += step * step if step % 3 else len(str(step))
    return total


@contextmanager
def _cores_in_turn() -> Iterator[Iterator[int]]:
    """Cores that this thread is on when each of them is given; where it cannot choose, the one that it is on."""
    if not hasattr(os, "sched_setaffinity"):
        yield iter((0,))
        return
    allowed = os.sched_getaffinity(0)

    def go_through() -> Iterator[int]:
        for core in sorted(allowed)[:MAX_CORES]:
            os.sched_setaffinity(0, {core})
            yield core

    try:
        yield go_through()
    finally:
        os.sched_setaffinity(0, allowed)


REST_S = 0.1
MIN_ROUNDS = 7
CLASSIFY_BATCH = 32


@dataclass
class Course:
    """How a run went.

    Args:
        logs: In the order of the competitors.
        digests: Target -> digest of the model, before the first process was started.
        levels_ms: Launch -> batch size -> the machine's level, round after round.
        is_complete: False where it was asked to stop.
    """

    logs: list[Log]
    digests: Mapping[str, str]
    levels_ms: list[dict[int, list[float]]] = field(default_factory=list)
    is_complete: bool = True


def run(
    subjects: Mapping[str, Subject],
    competitors: Sequence[Competitor],
    options: Options,
    *,
    supply: Supply | None = None,
    on_step: Callable[[str], None] = lambda what: None,
    stop: Callable[[], bool] = lambda: False,
) -> Course:
    """Time competitors beside one another.

    Each is started anew for each launch; then, batch size by batch size, all warm up until they get no faster, and take
    turns, in an order that is drawn for each round. Whoever has no turn stands still: its threads, its allocator and
    its imports cannot touch another's.

    Args:
        subjects: Target -> the model.
        competitors: At least one. The first is the one that others' outputs are compared with.
        options: How to time.
        supply: Samples that were given.
        on_step: Called after each start, warm-up and round with what it was.
        stop: Whether to end; what was seen until then is kept.
    """
    digests = {name: subject.digest for name, subject in subjects.items()}
    course = Course([Log(competitor) for competitor in competitors], digests)
    with suppress(Interrupted), tempfile.TemporaryDirectory() as folder:
        for number in range(options.num_launches):
            with ExitStack() as stack:
                launch = _Launch(subjects, digests, options, supply or Supply(), number, stop, stack)
                launch.go(course, on_step, Path(folder))
    course.is_complete = not stop()
    return course


@dataclass
class _Launch:
    """All processes of one launch, and what they are asked for."""

    subjects: Mapping[str, Subject]
    digests: Mapping[str, str]
    options: Options
    supply: Supply
    number: int
    stop: Callable[[], bool]
    stack: ExitStack
    processes: dict[int, Process] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.options.seed} {self.number}")

    def go(self, course: Course, on_step: Callable[[str], None], folder: Path) -> None:
        """Start, time, end."""
        course.levels_ms.append({})
        for at, log in self._order(course):
            with self._noting(log):
                self._start(log, at)
            on_step("start")
        if not self.number:
            self._ask_for_answers(course, folder)
        for batch_size in self._all_sizes(course):
            self._time(course, batch_size, on_step)
        for at, log in self._order(course):
            with self._noting(log):
                self._end(log, at)

    def _order(self, course: Course) -> list[tuple[int, Log]]:
        """Those that go on, in an order that is drawn anew."""
        there = [(at, log) for at, log in enumerate(course.logs) if log.goes_on]
        return self.random.sample(there, len(there))

    @contextmanager
    def _noting(self, log: Log) -> Iterator[None]:
        """A competitor that fails is out of the race; the others go on."""
        if self.stop():
            raise Interrupted("interrupted.")
        try:
            yield
        except CompetitorError as error:
            log.failure = str(error)

    def _start(self, log: Log, at: int) -> None:
        competitor = log.competitor
        process = Process(competitor.threads, timeout_s=self.options.timeout_s, stop=self.stop)
        self.stack.callback(process.close)
        self.processes[at] = process
        answer = process.ask(
            "open",
            competitor=competitor.to_json(),
            sizes=dict(self.subjects[competitor.target].sizes),
            given=self.supply.folder,
            spawned=process.spawned,
            digest=self.digests[competitor.target],
        )
        launch = log.opened(answer)
        self._first(log, at, self._batch_sizes(log)[0], launch)

    def _all_sizes(self, course: Course) -> list[int]:
        return sorted({size for log in course.logs for size in self._batch_sizes(log)})

    def _batch_sizes(self, log: Log) -> tuple[int, ...]:
        fixed = self.subjects[log.competitor.target].fixed_batch
        return self.options.batch_sizes if fixed is None else (fixed,)

    def _first(self, log: Log, at: int, batch_size: int, launch: Launch) -> None:
        if batch_size not in launch.first_ms:
            answer = self.processes[at].ask("first", batch_size=batch_size, seed=self._seed(batch_size))
            launch.first_ms[batch_size] = answer["first_ms"]

    def _ask_for_answers(self, course: Course, folder: Path) -> None:
        """What comes out for the same samples, and for those with a label."""
        for at, log in self._order(course):
            with self._noting(log):
                self.processes[at].ask("answer", path=str(folder / f"{at}.npz"))
                if self.supply.labels is not None:
                    self._classify(log, at)
        _compare(course, self.subjects, folder)

    def _classify(self, log: Log, at: int) -> None:
        answer = self.processes[at].ask("classify", labels=self.supply.labels, batch_size=CLASSIFY_BATCH)
        log.num_labelled, log.num_correct = answer["num_labelled"], answer["num_correct"]

    def _time(self, course: Course, batch_size: int, on_step: Callable[[str], None]) -> None:
        for at, log in self._order(course):
            if batch_size in self._batch_sizes(log):
                with self._noting(log):
                    self._settle(log, at, batch_size)
            on_step("warm-up")
        number = 0
        while number < self.options.num_rounds and not self._is_enough(course, batch_size, number):
            course.levels_ms[-1].setdefault(batch_size, []).append(look_at_level())
            for at, log in self._order(course):
                if batch_size in self._batch_sizes(log):
                    with self._noting(log):
                        self._turn(log, at, batch_size, number)
            on_step("round")
            number += 1
        for _ in range(number, self.options.num_rounds):
            on_step("round")

    def _is_enough(self, course: Course, batch_size: int, num_rounds: int) -> bool:
        """Whether everybody has had turns enough, in rounds and in seconds."""
        seconds = [
            sum(turn.wall_s for turn in log.launches[-1].turns[batch_size])
            for log in course.logs
            if log.goes_on and batch_size in log.launches[-1].turns
        ]
        return num_rounds >= MIN_ROUNDS and min(seconds, default=math.inf) >= self.options.enough_s

    def _settle(self, log: Log, at: int, batch_size: int) -> None:
        launch = log.launches[-1]
        self._first(log, at, batch_size, launch)
        answer = self.processes[at].ask(
            "settle", batch_size=batch_size, max_s=self.options.max_warm_up_s, seed=self._seed(batch_size)
        )
        launch.settled[batch_size] = Settled(**answer)

    def _turn(self, log: Log, at: int, batch_size: int, number: int) -> None:
        answer = self.processes[at].ask(
            "turn", batch_size=batch_size, turn_s=self.options.turn_s, seed=self._seed(batch_size, number)
        )
        log.launches[-1].turns.setdefault(batch_size, []).append(Turn.from_json(answer))

    def _end(self, log: Log, at: int) -> None:
        launch, process = log.launches[-1], self.processes[at]
        smallest = self._batch_sizes(log)[0]
        launch.idle_ms = process.ask(
            "idle", batch_size=smallest, pause_s=self.options.pause_s, seed=self._seed(smallest)
        )["idle_ms"]
        answer = process.ask("rest", seconds=REST_S)
        launch.busy_cores, launch.num_threads = answer["busy_cores"], answer["num_threads"]

    def _seed(self, *numbers: int) -> int:
        """Another one for each launch, batch size and round; the same for all competitors."""
        return int(np.random.SeedSequence([self.options.seed, self.number, *numbers]).generate_state(1)[0])


def _compare(course: Course, subjects: Mapping[str, Subject], folder: Path) -> None:
    """Each competitor's outputs beside those of the first that was fed the same."""
    firsts: dict[str, list[NDArray[Any]]] = {}
    for at, log in enumerate(course.logs):
        path = folder / f"{at}.npz"
        if not path.exists():
            continue
        with np.load(path) as archive:
            found = [archive[name] for name in sorted(archive)]
        expected = firsts.setdefault(subjects[log.competitor.target].family, found)
        log.max_delta = max_delta(found, expected)


def max_delta(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Largest difference over the expected output's largest value; infinite where shapes disagree or a NaN is."""
    if [item.shape for item in found] != [item.shape for item in expected]:
        return math.inf
    deltas = (
        np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0) / (np.abs(b).max(initial=0) or 1)
        for a, b in zip(found, expected, strict=True)
    )
    worst = float(max(deltas, default=0.0))
    return worst if math.isfinite(worst) else math.inf
