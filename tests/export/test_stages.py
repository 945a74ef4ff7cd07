"""Stages: their seconds, and the estimate of the time that is left."""

from __future__ import annotations

import pytest

from onward_export.stages import GATE, REFERENCE, SHARES, StageClock, time_left_s


def test_a_stage_that_begins_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 3.0, 5.0, 6.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    said: list[str] = []
    stages = StageClock(said.append)
    for name in (REFERENCE, GATE, REFERENCE):
        stages.begin(name)
    assert said == [REFERENCE, GATE, REFERENCE]
    assert stages.seconds() == {REFERENCE: 4.0, GATE: 2.0}


def test_the_time_that_is_left_follows_from_the_time_of_the_stages_before() -> None:
    assert sum(SHARES.values()) == pytest.approx(1)
    assert time_left_s(REFERENCE, 0.1) is None
    assert time_left_s(GATE, 8.5) == pytest.approx(8.5 * SHARES[GATE] / (1 - SHARES[GATE]))
