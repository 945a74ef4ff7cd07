"""Timing: several ways in turns, in alternating order, and the median of each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping

from benchmarks.gpu.section import Row, Setting, attempt

__all__ = ["rows_of_ways", "time_ways"]

Way = Callable[[], object]


def time_ways(ways: Mapping[str, Way], *, quick: bool = False) -> dict[str, list[float]]:
    """Way -> seconds of one call, for every round: A B C, C B A, A B C …; a round of a way lasts 20 ms or one call."""
    num_rounds, round_s = (2, 0.001) if quick else (11, 0.02)
    num_calls = {}
    for name, way in ways.items():
        for _ in range(1 if quick else 3):
            way()
        began = time.perf_counter()
        way()
        num_calls[name] = max(1, round(round_s / (time.perf_counter() - began)))
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    for number in range(num_rounds):
        for name in order if number % 2 else reversed(order):
            way, count = ways[name], num_calls[name]
            began = time.perf_counter()
            for _ in range(count):
                way()
            seconds[name].append((time.perf_counter() - began) / count)
    return seconds


def rows_of_ways(
    open_ways: Mapping[str, Callable[[], Way]], base: Row, setting: Setting, *, reference: str
) -> Iterator[Row]:
    """Open every way, time those that open, and yield a row for each.

    Args:
        open_ways: Name -> what opens it. It is called once before it is timed: what cannot run is a row with an error.
        base: What the rows have in common; it should have `batch`.
        setting: For the sizes.
        reference: The way that the column `ratio` compares with: its time over this way's.
    """
    ways: dict[str, Way] = {}
    for name, opened in open_ways.items():

        def open_and_try(name: str = name, opened: Callable[[], Way] = opened) -> Row:
            way = opened()
            way()
            ways[name] = way
            return {}

        row = attempt(base | {"way": name}, open_and_try)
        if "error" in row:
            yield row
    seconds = time_ways(ways, quick=setting.quick) if ways else {}
    for name, taken in seconds.items():
        ratio = None
        if reference in seconds:
            ratio = statistics.median(one / other for one, other in zip(seconds[reference], taken, strict=True))
        median = statistics.median(taken)
        deciles = statistics.quantiles(taken, n=10, method="inclusive")
        yield base | {
            "way": name,
            "ms": median * 1e3,
            "p10_ms": deciles[0] * 1e3,
            "p90_ms": deciles[-1] * 1e3,
            "images_s": base["batch"] / median,
            "ratio": ratio,
        }
