from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.statistics import (
    Interval,
    PairedRounds,
    change_interval,
    mean_ratio,
    p10,
    pair_rounds,
    ratio_interval,
    students_t,
    wilson_interval,
)

NUM_RUNS, NUM_ROUNDS = 5, 30
#: Slowdown of two programs by another tenant, and the share of the rounds in which it runs.
SLOWDOWNS = 1.85, 1.6
BUSY_SHARES = [0.0, 0.3, 0.6]


# Shares


def test_the_interval_of_a_share_is_that_of_statsmodels() -> None:
    # statsmodels.stats.proportion.proportion_confint(90, 100, method="wilson")
    assert wilson_interval(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_the_interval_of_none_begins_at_zero() -> None:
    low, high = wilson_interval(0, 10)
    assert low == pytest.approx(0, abs=1e-9)
    assert 0 < high < 0.3


@given(st.integers(1, 10**6).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_interval_contains_the_share_and_is_symmetric(pair: tuple[int, int]) -> None:
    num_correct, count = pair
    low, high = wilson_interval(num_correct, count)
    assert -1e-9 <= low <= num_correct / count + 1e-12
    assert num_correct / count - 1e-12 <= high <= 1 + 1e-9
    mirrored = wilson_interval(count - num_correct, count)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


# Ratios


def with_log_ratios(logs: Sequence[float]) -> PairedRounds:
    """Process runs of two equal rounds, whose p10s have these log ratios."""
    return [([math.exp(log)] * 2, [1.0] * 2) for log in logs]


def log_ends(interval: Interval) -> tuple[float, float, float]:
    return math.log(interval.low), math.log(interval.value), math.log(interval.high)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (20, 2.086), (60, 2.000), (0, 1.960)]
)
def test_students_t_is_that_of_tables(freedom: int, expected: float) -> None:
    assert students_t(freedom) == pytest.approx(expected, abs=6e-4)


def test_the_interval_of_a_ratio_has_a_degree_less_than_process_runs() -> None:
    width = 4.3027 * 0.01 / math.sqrt(3)  # t with 2 degrees; standard deviation 0.01
    found = ratio_interval(with_log_ratios([0.0, 0.01, 0.02]))
    assert log_ends(found) == pytest.approx((0.01 - width, 0.01, 0.01 + width))


def test_the_interval_of_a_change_has_two_degrees_less_than_process_runs() -> None:
    variance = (2 * 0.01**2 + 2 * 0.02**2) / 3  # pooled
    width = 3.1824 * math.sqrt(variance * (1 / 2 + 1 / 3))  # t with 3 degrees
    found = change_interval(with_log_ratios([0.0, 0.02]), with_log_ratios([0.01, 0.03, 0.05]))
    assert log_ends(found) == pytest.approx((0.02 - width, 0.02, 0.02 + width))


def test_a_change_between_single_process_runs_assumes_a_variance() -> None:
    before, after = [([1.0] * 7, [1.0] * 7)], [([1.03] * 7, [1.0] * 7)]
    width = 1.959964 * 0.02 * math.sqrt(2)  # equal rounds: only the assumed 2 % between process runs
    found = change_interval(before, after)
    assert log_ends(found) == pytest.approx((math.log(1.03) - width, math.log(1.03), math.log(1.03) + width))
    assert mean_ratio(after) == pytest.approx(1.03)


def test_p10_ignores_slow_inferences_but_is_not_the_minimum() -> None:
    assert p10([*range(101)]) == 10
    assert p10([1.0] * 50 + [100.0] * 50) == 1.0


def test_rounds_are_paired_up_to_the_shorter_process_run() -> None:
    assert pair_rounds([[1, 2, 3], [4], [5]], [[6, 7], [], [8, 9]]) == [([1, 2], [6, 7]), ([5], [8])]


def simulate(generator: np.random.Generator, round_noise: float, run_noise: float, busy: float) -> PairedRounds:
    """Rounds of two programs that are equally fast on an undisturbed machine."""
    shape = (2, NUM_RUNS, NUM_ROUNDS)
    logs = generator.normal(0, round_noise, shape) + generator.normal(0, run_noise, (2, NUM_RUNS, 1))
    first, second = np.where(generator.random(shape) < busy, np.reshape(SLOWDOWNS, (2, 1, 1)), 1) * np.exp(logs)
    return list(zip(first.tolist(), second.tolist(), strict=True))


@pytest.mark.parametrize("busy", BUSY_SHARES)
@pytest.mark.parametrize(("round_noise", "run_noise"), [(0.02, 0.01), (0.01, 0.03)])
def test_intervals_have_their_nominal_coverage(round_noise: float, run_noise: float, busy: float) -> None:
    generator = np.random.default_rng(0)
    hits, num_pairs = Counter[str](), 200
    for _ in range(num_pairs):
        before, after = (simulate(generator, round_noise, run_noise, share) for share in (0.3, busy))
        change, ratio = change_interval(before, after), ratio_interval(after)
        hits.update(change=change.low <= 1 <= change.high, ratio=ratio.low <= 1 <= ratio.high)
    assert min(hits.values()) / num_pairs >= 0.92  # two standard errors below 95 %
