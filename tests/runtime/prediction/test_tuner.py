from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.prediction.tuner import LARGEST_BATCH, Plan, Tuner

Speed = Callable[[Plan], float]


def tune(tuner: Tuner, speed: Speed, num_inferences: int = 2000) -> list[Plan]:
    """The plan of every inference, on a machine with this speed in images/s."""
    plans = []
    for _ in range(num_inferences):
        plan = tuner.plan
        plans.append(plan)
        tuner.record(plan, plan.batch_size, plan.batch_size * plan.streams / speed(plan))
    return plans


def busy(plan: Plan, **options: Any) -> Tuner:
    """A tuner on a machine where only inference takes time."""
    return Tuner(plan, clock=lambda: 0.0, **options)


def peak_at(size: int) -> Speed:
    """20 % slower at half and at double the size."""
    return lambda plan: 1000 * 0.8 ** abs(plan.batch_size.bit_length() - size.bit_length())


@pytest.mark.parametrize("start", [1, 8, 32, 256, LARGEST_BATCH])
@pytest.mark.parametrize("best", [1, 2, 16, 64, 1024, LARGEST_BATCH])
def test_it_climbs_to_the_best_size_from_anywhere(start: int, best: int) -> None:
    tuner = busy(Plan(start, 2, 1))
    tune(tuner, peak_at(best))
    assert tuner.is_settled
    assert tuner.plan == Plan(best, 2, 1)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.97, 1.03), st.floats(0.97, 1.03))
def test_a_difference_within_noise_changes_nothing(half: float, double: float) -> None:
    tuner = busy(Plan(16, 2, 1), arrangements=[(1, 2)])
    tune(tuner, lambda plan: {8: half, 16: 1.0, 32: double}[plan.batch_size] * 1000)
    assert tuner.plan == Plan(16, 2, 1)


def test_a_much_faster_arrangement_is_chosen() -> None:
    tuner = busy(Plan(16, 4, 1), arrangements=[(1, 4)])
    tune(tuner, lambda plan: 1500 if plan.threads == 4 else 1000)
    assert tuner.plan == Plan(16, 1, 4)


@pytest.mark.parametrize("sizes", [True, False])
def test_a_given_size_is_kept(sizes: bool) -> None:
    tuner = busy(Plan(16, 2, 1), sizes=sizes)
    plans = tune(tuner, peak_at(64))
    assert tuner.plan.batch_size == (64 if sizes else 16)
    assert ({plan.batch_size for plan in plans} == {16}) is not sizes


def test_with_nothing_to_tune_it_is_settled_at_once() -> None:
    assert busy(Plan(16, 2, 1), sizes=False).is_settled


def test_incomplete_batches_do_not_count_towards_a_trial() -> None:
    tuner = busy(Plan(16, 1, 1))
    for _ in range(100):
        tuner.record(tuner.plan, 3, 1.0)  # an incomplete batch
    assert tuner.plan == Plan(16, 1, 1)
    assert not tuner.is_settled


def test_after_running_out_of_memory_no_batch_is_larger() -> None:
    tuner = busy(Plan(64, 2, 1))
    tuner.limit(32)
    assert tuner.plan.batch_size == 32
    tuner.limit(8)
    tune(tuner, peak_at(256))
    assert tuner.plan.batch_size == 8


def test_tuning_costs_few_inferences() -> None:
    tuner = busy(Plan(16, 2, 1), arrangements=[(1, 2)])
    plans = tune(tuner, peak_at(16))
    assert plans.index(tuner.plan) == 0
    assert len([plan for plan in plans if plan != tuner.plan]) < 40


def test_tuning_stops_if_decoding_takes_most_of_the_time() -> None:
    now = 0.0
    tuner = Tuner(Plan(16, 1, 1), arrangements=[(1, 2)], clock=lambda: now)
    plans = []
    for _ in range(200):
        plans.append(tuner.plan)
        now += 0.002  # most of it for decoding
        tuner.record(tuner.plan, tuner.plan.batch_size, 0.00005 * tuner.plan.batch_size)
        if tuner.is_settled:
            break
    assert {plan.threads for plan in plans} == {1}
    assert max(plan.batch_size for plan in plans) == 16
