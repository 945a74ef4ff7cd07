"""Log: what was seen of one competitor, launch by launch.

Turn: some inferences in a row, timed one by one; their outputs are looked at when the clock has stopped.
"""

from __future__ import annotations

import base64
import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.inputs import Batch
from onward.benchmarking.model import Judgement, Record
from onward.benchmarking.spec import Competitor
from onward.benchmarking.warm_up import Settled
from onward.host.cpu import read_cpu_times
from onward.statistics import quiet_level

__all__ = ["Launch", "Log", "Turn", "take_turn"]


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


#: Untimed inferences at the beginning of a turn: caches and threads come back from a pause.
WAKE_S = 0.005
MIN_WAKES = 2
MIN_INFERENCES = 2
Infer = Callable[[Any], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Turn:
    """What a turn came to.

    Args:
        latencies_ms: float32, of each inference.
        wall_s: From the first to the last.
        own_s: Processor time of this process meanwhile.
        waited_s: Time that its threads could have run and did not, because others had the processor; None where the
            system does not tell.
        stolen_s: Time that the host took from this machine; None where the system does not tell.
        noise_ratio: The worst one of the outputs that were looked at.
        passed: Whether the gate would let all of them pass.
        is_wrong: Whether one of them is no answer of this model's.
        num_threads: Of the process, at the end.
        peak_bytes: The most memory it ever had.
    """

    latencies_ms: NDArray[np.float32]
    wall_s: float
    own_s: float
    waited_s: float | None
    stolen_s: float | None
    noise_ratio: float
    passed: bool
    is_wrong: bool
    num_threads: int
    peak_bytes: int

    @property
    def quiet_ms(self) -> float:
        """What an inference took where nothing disturbed it."""
        return quiet_level(self.latencies_ms)

    def to_json(self) -> dict[str, Any]:
        """The form that goes from process to process; `Turn.from_json(turn.to_json())` has the same figures."""
        latencies = base64.b64encode(self.latencies_ms.astype("<f4").tobytes()).decode()
        return asdict(self) | {"latencies_ms": latencies}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Turn:
        """Read it."""
        latencies = np.frombuffer(base64.b64decode(document["latencies_ms"]), "<f4")
        return cls(**(document | {"latencies_ms": latencies}))


def take_turn(infer: Infer, batches: Sequence[Batch], record: Record, *, turn_s: float) -> Turn:
    """Wake up, then time inferences for so long, two at the least.

    Args:
        infer: Runs one.
        batches: Taken round and round.
        record: Judges those of its own samples.
        turn_s: Seconds.
    """
    kept: dict[int, Sequence[NDArray[Any]]] = {}
    with _no_collection():
        _wake(infer, batches)
        before, own, began = read_cpu_times(), time.process_time(), time.perf_counter()
        latencies = _time(infer, batches, kept, began + turn_s)
        wall, own, after = time.perf_counter() - began, time.process_time() - own, read_cpu_times()
    judgements = list(_judge(batches, kept, record))
    spent = after - before
    return Turn(
        latencies_ms=np.asarray(latencies, np.float32) * np.float32(1e3),
        wall_s=wall,
        own_s=own,
        waited_s=spent.waited_s,
        stolen_s=spent.stolen_s,
        noise_ratio=max((item.noise_ratio for item in judgements), default=0.0),
        passed=all(item.passed for item in judgements),
        is_wrong=any(item.is_wrong for item in judgements),
        num_threads=count_threads(),
        peak_bytes=peak_bytes(),
    )


def _wake(infer: Infer, batches: Sequence[Batch]) -> None:
    end = time.perf_counter() + WAKE_S
    for number, batch in enumerate(cycle(batches), 1):
        infer(batch.arrays)
        if time.perf_counter() > end and number >= MIN_WAKES:
            return


def _time(infer: Infer, batches: Sequence[Batch], kept: dict[int, Sequence[NDArray[Any]]], end: float) -> list[float]:
    """Seconds of each inference; `kept` gets the last outputs for each batch of the record."""
    clock = time.perf_counter
    feeds = [batch.arrays for batch in batches]
    known = [bool(batch.kind) for batch in batches]
    latencies: list[float] = []
    at = 0
    while True:
        feed = feeds[at]
        began = clock()
        outputs = infer(feed)
        ended = clock()
        latencies.append(ended - began)
        if known[at]:
            kept[at] = outputs
        at = (at + 1) % len(feeds)
        if ended >= end and len(latencies) >= MIN_INFERENCES:
            return latencies


def _judge(batches: Sequence[Batch], kept: dict[int, Sequence[NDArray[Any]]], record: Record) -> Iterator[Judgement]:
    for at, outputs in kept.items():
        batch = batches[at]
        assert batch.index is not None
        try:
            yield record.judge(batch.kind, batch.index, outputs)
        except (ValueError, TypeError, IndexError):  # outputs of another number, shape or kind
            yield Judgement(float("inf"), passed=False, is_wrong=True)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's collector of cycles would strike in some inferences, and not in those of another language."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def count_threads() -> int:
    """Threads of this process; where the system does not tell, those that Python knows of."""
    from pathlib import Path

    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


def peak_bytes() -> int:
    """The most memory that this process ever had (peak resident set); 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
