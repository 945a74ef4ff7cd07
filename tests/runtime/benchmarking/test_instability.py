from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onward.benchmarking.instability import find_instabilities, find_leaks
from onward.benchmarking.measurements import ProcessRun
from onward.benchmarking.sample import Sample
from onward.host.cpu import count_cores
from onward.statistics import Interval

STEADY = [[1.0] * 9] * 3
KNOWN = Interval(2.0, 1.98, 2.02)


def sample(**changes: object) -> Sample:
    figures: dict[str, object] = {
        "latencies_ms": np.ones(3, np.float32),
        "wall_s": 0.1,
        "own_s": 0.1,
        "waited_s": 0.0,
        "stolen_s": 0.0,
        "distance": 1.0,
        "passed": True,
        "is_wrong": False,
        "num_threads": 4,
        "peak_bytes": 1 << 20,
    }
    return Sample(**(figures | changes))  # type: ignore[arg-type]


def kinds(
    normalised_rounds: Sequence[Sequence[float]] = STEADY,
    normalised_process_runs: Sequence[float] = (1.0, 1.0, 1.0),
    ratio: Interval | None = KNOWN,
    samples: Sequence[Sequence[Sample]] = ((sample(),),),
    *,
    is_steady: bool = True,
    threads: int = 1,
) -> list[str]:
    found = find_instabilities(
        samples, normalised_rounds, normalised_process_runs, ratio, is_steady=is_steady, threads=threads
    )
    return [item.kind for item in found]


def test_rounds_that_agree_are_stable() -> None:
    assert kinds() == []


def test_a_wide_interval_is_reported() -> None:
    assert kinds(ratio=Interval(2.0, 1.8, 2.2)) == ["rounds"]
    assert kinds(ratio=Interval(2.0, 1.97, 2.03)) == []


def test_process_runs_of_the_reference_that_disagree_are_reported() -> None:
    assert kinds(normalised_process_runs=[1.0, 1.2], ratio=None) == ["process-runs"]
    assert kinds(normalised_process_runs=[1.0, 1.0, 1.0, 1.0, 1.05], ratio=None) == []


@pytest.mark.parametrize(("num_process_runs", "limit"), [(2, 0.0051), (3, 0.0252), (4, 0.0444), (5, 0.06), (7, 0.06)])
def test_few_process_runs_must_be_closer_together(num_process_runs: int, limit: float) -> None:
    """By chance they are: five that differ by 5 % are as rare an exception as three that differ by 2 %."""
    for slowdown, expected in ((limit - 1e-4, []), (limit + 1e-4, ["process-runs"])):
        runs = [1.0] * (num_process_runs - 1) + [1 + slowdown]
        assert kinds(normalised_process_runs=runs, ratio=None) == expected


@pytest.mark.parametrize(
    ("ratio", "process_runs", "said"),
    [
        (Interval(2.0, 1.8, 2.2), [], "the ratio is only known to ±10.0%"),
        (Interval(2.0, 0.001, 285_000.0), [], "the ratio is not known"),
        (None, [1.0, 1.2], "one is 20% slower than another"),
        (None, [1.0, 17.02], "one takes 17 times as long as another"),
    ],
)
def test_what_nobody_reads_as_a_percentage_is_none(
    ratio: Interval | None, process_runs: list[float], said: str
) -> None:
    (found,) = find_instabilities([[sample()]], [], process_runs, ratio, is_steady=True, threads=1)
    assert found.detail.endswith(said)


def drifting(step: float) -> list[float]:
    return [1 + step * at for at in range(9)]


@pytest.mark.parametrize(("step", "how"), [(0.05, "gets slower: by 29%"), (-0.05, "gets faster: by 32%")])
def test_a_drift_in_every_process_run_is_reported(step: float, how: str) -> None:
    rounds = [drifting(step)] * 2
    (found,) = find_instabilities([[sample()]], rounds, [1.0, 1.0], KNOWN, is_steady=True, threads=1)
    assert found.kind == "drift"
    assert found.detail.startswith(how)


def test_a_drift_in_a_single_process_run_is_not_reported() -> None:
    assert kinds([drifting(0.05), STEADY[0], STEADY[0]]) == []
    assert kinds([drifting(-0.05), STEADY[0], STEADY[0]]) == []
    assert kinds([drifting(0.05), drifting(-0.05)]) == []


def test_a_single_slow_round_is_no_drift() -> None:
    assert kinds([[1, 1, 1, 1, 1, 1, 1, 1, 1.5], [1.5, 1, 1, 1, 1, 1, 1, 1, 1]]) == []


def test_waiting_for_a_processor_is_reported() -> None:
    assert kinds(samples=[[sample(waited_s=0.03)] * 3]) == ["load"]


def test_waiting_with_more_threads_than_cores_is_not_reported() -> None:
    assert kinds(samples=[[sample(waited_s=10.0)] * 3], threads=count_cores() + 1) == []


def test_a_quarter_of_the_samples_may_wait() -> None:
    waiting = sample(waited_s=0.05)
    assert kinds(samples=[[sample(), waiting, sample(), sample()]]) == []
    assert kinds(samples=[[sample(), waiting, sample()]]) == ["load"]


def test_time_taken_by_the_hypervisor_is_reported() -> None:
    assert kinds(samples=[[sample(stolen_s=0.02)] * 3]) == ["host"]


def test_unknown_times_are_not_reported() -> None:
    assert kinds(samples=[[sample(waited_s=None, stolen_s=None)]]) == []


def test_a_warm_up_that_did_not_become_steady_is_reported() -> None:
    assert kinds(is_steady=False) == ["warm-up"]


def test_leaks_are_reported() -> None:
    process_run = ProcessRun({}, busy_cores=1.0)
    leaking = [[sample(num_threads=4), sample(num_threads=40)]]
    assert [item.kind for item in find_leaks([process_run], leaking)] == ["busy", "threads"]
    assert list(find_leaks([ProcessRun({}, busy_cores=0.01)], [[sample(), sample(num_threads=6)]])) == []
