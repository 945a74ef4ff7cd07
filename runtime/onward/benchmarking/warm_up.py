"""Settling: inferences that are not timed, until they get no faster."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Settled", "has_settled", "settle"]


WINDOW_S = 0.05
#: Windows are compared in two halves of so many, at the least: the last with those before.
HALF, SHORTEST_HALF = 4, 2
#: The level has settled when it fell by less than this share from one half to the next.
MAX_FALL = 0.03


@dataclass(frozen=True)
class Settled:
    """How a warm-up went.

    Args:
        num_inferences: That many.
        seconds: It took.
        is_settled: False where the level still fell when time was over.
    """

    num_inferences: int
    seconds: float
    is_settled: bool


def settle(infer: Callable[[], object], *, max_s: float, clock: Callable[[], float] = time.perf_counter) -> Settled:
    """Run inferences until their level has settled.

    Args:
        infer: Runs one.
        max_s: Seconds after which it ends in any case.
        clock: In seconds.
    """
    began = now = clock()
    windows: list[float] = []
    num_inferences = 0
    while True:
        latencies: list[float] = []
        opened = now
        while now - opened < WINDOW_S:
            before = now
            infer()
            now = clock()
            latencies.append(now - before)
        num_inferences += len(latencies)
        windows.append(statistics.median(latencies))
        # where one inference fills a window, a few of them have to do
        if has_settled(windows, half=HALF if len(latencies) > 1 else SHORTEST_HALF):
            return Settled(num_inferences, now - began, True)
        if now - began >= max_s:
            return Settled(num_inferences, now - began, False)


def has_settled(levels: Sequence[float], *, half: int = HALF) -> bool:
    """Whether the last levels are no lower than those before them, but for noise."""
    if len(levels) < 2 * half:
        return False
    last, before = levels[-half:], levels[-2 * half : -half]
    return statistics.median(last) >= (1 - MAX_FALL) * statistics.median(before)
