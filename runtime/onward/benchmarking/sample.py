"""Sample: some consecutive inferences, timed one by one. Their outputs are checked after the clock has stopped."""

from __future__ import annotations

import base64
import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.expected_outputs import ExpectedOutputs, OutputCheck
from onward.benchmarking.inputs import Arrays, InputBatch
from onward.host.cpu import read_cpu_times
from onward.statistics import p10

__all__ = ["Sample", "take_sample"]

#: Untimed inferences before each sample: they refill the caches and wake the threads after a stop.
WAKE_S = 0.005
MIN_WAKES = 2
MIN_INFERENCES = 2

Outputs = Sequence[NDArray[Any]]
Infer = Callable[[Arrays], Outputs]


@dataclass(frozen=True)
class Sample:
    """What one sample measured.

    Args:
        latencies_ms: float32, of each inference.
        wall_s: From the start of the first inference to the end of the last.
        own_s: CPU time of this process in that time.
        waited_s: Time that its threads waited for a processor that others used; None if the system does not say.
        stolen_s: Time that the hypervisor took from this machine; None if the system does not say.
        distance: The largest of the checked outputs, as `OutputCheck` has it.
        passed: Whether the parity gate, or the rule of a lower precision, would pass all checked outputs.
        is_wrong: Whether any checked output is not this model's.
        num_threads: Threads of the process at the end.
        peak_bytes: The process's largest resident memory so far.
    """

    latencies_ms: NDArray[np.float32]
    wall_s: float
    own_s: float
    waited_s: float | None
    stolen_s: float | None
    distance: float
    passed: bool
    is_wrong: bool
    num_threads: int
    peak_bytes: int

    @property
    def p10_ms(self) -> float:
        """The latency that 10 % of the inferences stay below: that of an undisturbed one."""
        return p10(self.latencies_ms)

    def to_json(self) -> dict[str, Any]:
        """The form that a worker sends; `Sample.from_json(sample.to_json())` has the same values."""
        latencies = base64.b64encode(self.latencies_ms.astype("<f4").tobytes()).decode()
        return asdict(self) | {"latencies_ms": latencies}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Sample:
        """Read what `to_json` returned."""
        latencies = np.frombuffer(base64.b64decode(document["latencies_ms"]), "<f4")
        return cls(**(document | {"latencies_ms": latencies}))


def take_sample(infer: Infer, batches: Sequence[InputBatch], expected: ExpectedOutputs, *, sample_s: float) -> Sample:
    """Run some untimed inferences, then timed ones for `sample_s`, two at least.

    Args:
        infer: Runs one inference.
        batches: Its inputs, in turn.
        expected: Checks the outputs of those batches whose outputs are known.
        sample_s: Seconds.
    """
    outputs: dict[int, Outputs] = {}
    with _without_collector():
        _wake(infer, batches)
        before, own, began = read_cpu_times(), time.process_time(), time.perf_counter()
        latencies = _time(infer, batches, outputs, began + sample_s)
        wall, own, after = time.perf_counter() - began, time.process_time() - own, read_cpu_times()
    checks = list(_check(batches, outputs, expected))
    spent = after - before
    return Sample(
        latencies_ms=np.asarray(latencies, np.float32) * np.float32(1e3),
        wall_s=wall,
        own_s=own,
        waited_s=spent.waited_s,
        stolen_s=spent.stolen_s,
        distance=max((item.distance for item in checks), default=0.0),
        passed=all(item.passed for item in checks),
        is_wrong=any(item.is_wrong for item in checks),
        num_threads=_count_threads(),
        peak_bytes=_peak_bytes(),
    )


def _wake(infer: Infer, batches: Sequence[InputBatch]) -> None:
    end = time.perf_counter() + WAKE_S
    for number, batch in enumerate(cycle(batches), 1):
        infer(batch.arrays)
        if time.perf_counter() > end and number >= MIN_WAKES:
            return


def _time(infer: Infer, batches: Sequence[InputBatch], kept: dict[int, Outputs], end: float) -> list[float]:
    """Seconds of each inference; `kept` gets the last outputs of each batch whose outputs are known."""
    clock = time.perf_counter
    feeds = [batch.arrays for batch in batches]
    is_known = [bool(batch.kind) for batch in batches]
    latencies: list[float] = []
    at = 0
    while True:
        feed = feeds[at]
        began = clock()
        outputs = infer(feed)
        ended = clock()
        latencies.append(ended - began)
        if is_known[at]:
            kept[at] = outputs
        at = (at + 1) % len(feeds)
        if ended >= end and len(latencies) >= MIN_INFERENCES:
            return latencies


def _check(
    batches: Sequence[InputBatch], kept: Mapping[int, Outputs], expected: ExpectedOutputs
) -> Iterator[OutputCheck]:
    for at, outputs in kept.items():
        batch = batches[at]
        assert batch.index is not None
        try:
            yield expected.check(batch.kind, batch.index, outputs)
        except (ValueError, TypeError, IndexError):  # outputs of another number, shape or type
            yield OutputCheck(float("inf"), passed=False, is_wrong=True)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Python's cyclic garbage collector would slow some inferences down, and none of a backend in another language."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _count_threads() -> int:
    """Threads of this process; if the system does not say, those that Python knows."""
    try:
        return len(list(Path("/proc/self/task").iterdir()))
    except OSError:
        return threading.active_count()


def _peak_bytes() -> int:
    """The largest resident memory of this process so far; 0 if the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
