"""Level: how fast this machine is at the moment, by a fixed piece of work on each of some cores."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["look_at_level"]

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
