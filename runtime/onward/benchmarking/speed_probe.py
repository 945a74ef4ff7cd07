"""Speed probe: how fast this machine is at the moment, measured by a fixed piece of work on some of its cores."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["probe_speed_ms"]

#: Steps of Python's interpreter, with branches: other tenants slow them down more than arithmetic in a loop (1.6 times
#: against 1.2 times, where PyTorch became 1.7 times slower).
NUM_STEPS = 300
PROBE_S = 0.002
#: Cores that are probed; a machine with many cores has other work for its tenants.
MAX_CORES = 4


def probe_speed_ms() -> float:
    """Milliseconds that 300 steps of Python's interpreter take, on the slowest of the probed cores."""
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
