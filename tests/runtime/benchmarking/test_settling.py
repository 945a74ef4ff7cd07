from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.benchmarking.warm_up import Settled, has_settled, settle


class Clock:
    """Stands still but for what inferences take: tests do not depend on the machine."""

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


def warm_up(seconds: Callable[[int], float], max_s: float = 10) -> Settled:
    clock = Clock()
    return settle(clock.infer(seconds), max_s=max_s, clock=clock)


@pytest.mark.parametrize("latency_s", [10e-6, 1e-3, 0.04])
def test_a_steady_level_settles_in_eight_windows(latency_s: float) -> None:
    settled = warm_up(lambda call: latency_s)
    assert settled.is_settled
    assert settled.seconds == pytest.approx(8 * 0.05, rel=0.7)


def test_where_one_inference_fills_a_window_four_will_do() -> None:
    assert warm_up(lambda call: 1.0) == Settled(4, 4.0, True)


def test_a_slow_start_is_waited_for() -> None:
    """A compiler that takes 300 inferences to find its pace."""
    settled = warm_up(lambda call: 1e-3 if call >= 300 else 3e-3 - 2e-3 * call / 300)
    assert settled.is_settled
    assert settled.num_inferences > 300


def test_what_gets_faster_and_faster_never_settles() -> None:
    settled = warm_up(lambda call: 1e-3 * 0.999**call, max_s=0.5)
    assert not settled.is_settled
    assert settled.seconds >= 0.5


def test_what_gets_slower_has_settled() -> None:
    """It will be seen as a drift; there is no use in waiting for it to get better."""
    assert warm_up(lambda call: 1e-3 * (1 + call / 100)).is_settled


@given(st.lists(st.floats(0.1, 10), min_size=8, max_size=20), st.floats(1e-3, 1e3))
def test_the_unit_does_not_matter(levels: Sequence[float], factor: float) -> None:
    assert has_settled(levels) == has_settled([level * factor for level in levels])


@given(st.lists(st.floats(0.1, 10), max_size=7))
def test_too_few_windows_say_nothing(levels: Sequence[float]) -> None:
    assert not has_settled(levels)
