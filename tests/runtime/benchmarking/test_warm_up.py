from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.benchmarking.warm_up import WarmUp, is_steady, warm_up


class Clock:
    """Advances only by what inferences take, so that no test depends on the machine."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def infer(self, seconds: Callable[[int], float]) -> Callable[[], None]:
        calls = 0

        def run() -> None:
            nonlocal calls
            self.now += seconds(calls)
            calls += 1

        return run


def simulate(seconds: Callable[[int], float], max_s: float = 10) -> WarmUp:
    """A warm-up whose n-th inference takes `seconds(n)`."""
    clock = Clock()
    return warm_up(clock.infer(seconds), max_s=max_s, clock=clock)


@pytest.mark.parametrize("latency_s", [10e-6, 1e-3, 0.04])
def test_constant_latencies_are_steady_after_eight_windows(latency_s: float) -> None:
    found = simulate(lambda call: latency_s)
    assert found.is_steady
    assert found.seconds == pytest.approx(8 * 0.05, rel=0.7)


def test_four_windows_are_enough_if_each_is_one_inference() -> None:
    assert simulate(lambda call: 1.0) == WarmUp(4, 4.0, True)


def test_a_slow_start_is_waited_for() -> None:
    """A compiler that needs 300 inferences."""
    found = simulate(lambda call: 1e-3 if call >= 300 else 3e-3 - 2e-3 * call / 300)
    assert found.is_steady
    assert found.num_inferences > 300


def test_latencies_that_keep_falling_are_not_steady() -> None:
    found = simulate(lambda call: 1e-3 * 0.999**call, max_s=0.5)
    assert not found.is_steady
    assert found.seconds >= 0.5


def test_rising_latencies_end_the_warm_up() -> None:
    """They are reported as drift; waiting would not help."""
    assert simulate(lambda call: 1e-3 * (1 + call / 100)).is_steady


@given(st.lists(st.floats(0.1, 10), min_size=8, max_size=20), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(medians: Sequence[float], factor: float) -> None:
    assert is_steady(medians) == is_steady([median * factor for median in medians])


@given(st.lists(st.floats(0.1, 10), max_size=7))
def test_too_few_windows_are_not_steady(medians: Sequence[float]) -> None:
    assert not is_steady(medians)
