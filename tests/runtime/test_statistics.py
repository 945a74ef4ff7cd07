from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.statistics import wilson_interval


def test_it_is_what_statisticians_compute() -> None:
    # statsmodels.stats.proportion.proportion_confint(90, 100, method="wilson")
    assert wilson_interval(90, 100) == pytest.approx((0.8256, 0.9448), abs=1e-4)


def test_of_none_it_begins_at_nothing_and_ends_above() -> None:
    low, high = wilson_interval(0, 10)
    assert low == pytest.approx(0, abs=1e-9)
    assert 0 < high < 0.3


@given(st.integers(1, 10**6).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_the_share_lies_in_it_and_it_is_mirrored(pair: tuple[int, int]) -> None:
    num_correct, count = pair
    low, high = wilson_interval(num_correct, count)
    assert -1e-9 <= low <= num_correct / count + 1e-12
    assert num_correct / count - 1e-12 <= high <= 1 + 1e-9
    mirrored = wilson_interval(count - num_correct, count)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)
