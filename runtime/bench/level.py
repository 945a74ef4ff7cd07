"""Level: how fast this machine is at the moment, by a fixed piece of work on each of some cores.

A shared machine has a neighbour on the other half of a core for a tenth of a second or two, and is slower by half
meanwhile; nothing that a process can ask the system for tells of it. The fixed piece of work does: a turn beside which
it took longer says nothing about the competitor.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["Level"]

#: Steps of the interpreter, branches and all: they feel a neighbour more than arithmetic in a loop does (1.6 times as
#: long against 1.2 times, where PyTorch took 1.7 times as long).
NUM_STEPS = 300
PROBE_S = 0.002
#: Cores that are looked at. A machine of many has other work for its neighbours.
MAX_CORES = 4
#: The machine is at its level when it takes no longer than this times what it takes when it is left alone.
MAX_ABOVE = 1.1
#: Left alone: as fast as it was in a tenth of the last looks.
QUIET_PERCENT, NUM_LOOKS = 10, 200
NUM_FIRST = 20


class Level:
    """Looks at the machine, and remembers what is usual."""

    def __init__(self) -> None:
        self.looks_ms: deque[float] = deque(maxlen=NUM_LOOKS)
        for _ in range(NUM_FIRST):
            self.look()

    def look(self) -> float:
        """Milliseconds that 300 steps of Python's interpreter take, on the slowest core that was looked at."""
        with _cores_in_turn() as cores:
            self.looks_ms.append(max(_probe() for _ in cores) * 1e3)
        return self.looks_ms[-1]

    def is_usual(self, look_ms: float) -> bool:
        """Whether the machine was at its level."""
        return look_ms <= MAX_ABOVE * float(np.percentile(self.looks_ms, QUIET_PERCENT))

    def wait(self, at_most_s: float) -> None:
        """Until the machine is at its level, or for so long; 0 or less does not look."""
        end = time.perf_counter() + at_most_s
        while time.perf_counter() < end and not self.is_usual(self.look()):
            time.sleep(PROBE_S)


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
