"""Turns: several ways to do the same are measured one after the other, round after round."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from onward.cli.console import remark

__all__ = ["ratio_of", "speed_of", "take_turns"]

Measured = TypeVar("Measured")

REST_S = 0.2  # onnxruntime's threads spin on after an inference; the next way should not pay for it
SEED = 0


def take_turns(
    ways: Mapping[str, Callable[[], Measured]], num_rounds: int, *, warm_up: bool = True
) -> dict[str, list[Measured]]:
    """Measure every way once a round, in an order that is drawn anew for each round.

    Args:
        ways: Name -> measures once.
        num_rounds: That count.
        warm_up: Whether one more comes before them.

    Returns:
        Name -> what was measured, a round.
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


def speed_of(run: Callable[[], object], num_images: int) -> Callable[[], float]:
    """Measures images/s of what deals with so many images a call."""

    def measure() -> float:
        began = time.perf_counter()
        run()
        return num_images / (time.perf_counter() - began)

    return measure


def ratio_of(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of the ratios within a round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))
