"""Rounds: several ways to do the same are measured one after the other, round after round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from onward.cli.console import remark

__all__ = ["measure_in_rounds", "ratio_of", "throughput_of"]

Measured = TypeVar("Measured")

REST_S = 0.2  # onnxruntime's threads spin for a while after an inference, which would slow the next way
SEED = 0


def measure_in_rounds(
    ways: Mapping[str, Callable[[], Measured]], num_rounds: int, *, warm_up: bool = True
) -> dict[str, list[Measured]]:
    """Measure every way once per round, in a new random order each round.

    Args:
        ways: Name -> measures once.
        num_rounds: Number of rounds.
        warm_up: Whether to run one more round first, which does not count.

    Returns:
        Name -> one measurement per round.
    """
    order, draw = list(ways), random.Random(SEED)
    measured: dict[str, list[Measured]] = {way: [] for way in ways}
    for number in range(0 if warm_up else 1, num_rounds + 1):
        draw.shuffle(order)
        for way in order:
            time.sleep(REST_S)
            one = ways[way]()
            if number:
                measured[way].append(one)
        remark(f"  round {number} of {num_rounds}" if number else "  warm-up")
    return measured


def throughput_of(run: Callable[[], object], num_images: int) -> Callable[[], float]:
    """A function that measures the images/s of `run`, which processes `num_images` per call."""

    def measure() -> float:
        began = time.perf_counter()
        run()
        return num_images / (time.perf_counter() - began)

    return measure


def ratio_of(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of the ratio of two speeds."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
