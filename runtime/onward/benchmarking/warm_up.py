"""Warm-up: untimed inferences until they get no faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["WarmUp", "is_steady", "warm_up"]

WINDOW_S = 0.05
#: The last windows are compared with as many before them; fewer, if one inference fills a window.
NUM_COMPARED, MIN_COMPARED = 4, 2
#: Latencies are steady if they fell by less than this share.
MAX_FALL = 0.03


@dataclass(frozen=True)
class WarmUp:
    """How a warm-up went.

    Args:
        num_inferences: Number of inferences.
        seconds: Its duration.
        is_steady: False if inferences still got faster when the time was over.
    """

    num_inferences: int
    seconds: float
    is_steady: bool


def warm_up(infer: Callable[[], object], *, max_s: float, clock: Callable[[], float] = time.perf_counter) -> WarmUp:
    """Run inferences until their latency is steady.

    Args:
        infer: Runs one inference.
        max_s: Seconds after which the warm-up ends in any case.
        clock: In seconds.
    """
    began = now = clock()
    medians: list[float] = []
    num_inferences = 0
    while True:
        latencies: list[float] = []
        window_began = now
        while now - window_began < WINDOW_S:
            before = now
            infer()
            now = clock()
            latencies.append(now - before)
        num_inferences += len(latencies)
        medians.append(statistics.median(latencies))
        if is_steady(medians, num_compared=NUM_COMPARED if len(latencies) > 1 else MIN_COMPARED):
            return WarmUp(num_inferences, now - began, True)
        if now - began >= max_s:
            return WarmUp(num_inferences, now - began, False)


def is_steady(medians: Sequence[float], *, num_compared: int = NUM_COMPARED) -> bool:
    """Whether the last windows are no faster than as many before them, up to noise."""
    if len(medians) < 2 * num_compared:
        return False
    last, before = medians[-num_compared:], medians[-2 * num_compared : -num_compared]
    return statistics.median(last) >= (1 - MAX_FALL) * statistics.median(before)
