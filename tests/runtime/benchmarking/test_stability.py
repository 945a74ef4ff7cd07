from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onward.benchmarking.measurement import Launch, Turn
from onward.benchmarking.summary import find_instabilities, find_leaks
from onward.host.cpu import count_cores
from onward.statistics import Interval

STEADY = [[1.0] * 9] * 3
KNOWN = Interval(2.0, 1.98, 2.02)


def turn(**changes: object) -> Turn:
    figures: dict[str, object] = {
        "latencies_ms": np.ones(3, np.float32),
        "wall_s": 0.1,
        "own_s": 0.1,
        "waited_s": 0.0,
        "stolen_s": 0.0,
        "noise_ratio": 1.0,
        "passed": True,
        "is_wrong": False,
        "num_threads": 4,
        "peak_bytes": 1 << 20,
    }
    return Turn(**(figures | changes))  # type: ignore[arg-type]


def kinds(
    relative: Sequence[Sequence[float]] = STEADY,
    levels: Sequence[float] = (1.0, 1.0, 1.0),
    ratio: Interval | None = KNOWN,
    turns: Sequence[Sequence[Turn]] = ((turn(),),),
    *,
    is_settled: bool = True,
    threads: int = 1,
) -> list[str]:
    found = find_instabilities(turns, relative, levels, ratio, is_settled=is_settled, threads=threads)
    return [item.kind for item in found]


def test_rounds_that_agree_are_stable() -> None:
    assert kinds() == []


def test_a_wide_interval_is_said() -> None:
    assert kinds(ratio=Interval(2.0, 1.8, 2.2)) == ["rounds"]


def test_launches_of_the_reference_that_disagree_are_said() -> None:
    assert kinds(levels=[1.0, 1.2], ratio=None) == ["launches"]
    assert kinds(levels=[1.0, 1.03], ratio=None) == []


@pytest.mark.parametrize(("step", "how"), [(0.05, "gets slower: by 29%"), (-0.05, "gets faster: by 32%")])
def test_a_drift_in_every_launch_is_said(step: float, how: str) -> None:
    rounds = [[1 + step * at for at in range(9)]] * 2
    (found,) = find_instabilities([[turn()]], rounds, [1.0, 1.0], KNOWN, is_settled=True, threads=1)
    assert found.kind == "drift"
    assert found.detail.startswith(how)


def test_a_slow_round_is_no_drift() -> None:
    assert kinds([[1, 1, 1, 1, 1, 1, 1, 1, 1.5], [1.5, 1, 1, 1, 1, 1, 1, 1, 1]]) == []


def test_waiting_for_a_processor_is_said() -> None:
    assert kinds(turns=[[turn(waited_s=0.03)] * 3]) == ["load"]


def test_waiting_is_its_own_doing_where_it_wants_more_than_there_is() -> None:
    assert kinds(turns=[[turn(waited_s=10.0)] * 3], threads=count_cores() + 1) == []


def test_one_turn_that_waited_is_forgiven() -> None:
    assert kinds(turns=[[turn(), turn(waited_s=0.05), turn(), turn()]]) == []


def test_time_that_the_host_took_is_said() -> None:
    assert kinds(turns=[[turn(stolen_s=0.02)] * 3]) == ["host"]


def test_a_system_that_does_not_tell_is_believed() -> None:
    assert kinds(turns=[[turn(waited_s=None, stolen_s=None)]]) == []


def test_a_warm_up_that_did_not_settle_is_said() -> None:
    assert kinds(is_settled=False) == ["warm-up"]


def test_leaks_are_said() -> None:
    launch = Launch({}, busy_cores=1.0)
    leaking = [[turn(num_threads=4), turn(num_threads=40)]]
    assert [item.kind for item in find_leaks([launch], leaking)] == ["busy", "threads"]
    assert list(find_leaks([Launch({}, busy_cores=0.01)], [[turn(), turn(num_threads=6)]])) == []


def test_a_turn_reads_back() -> None:
    one = turn(latencies_ms=np.array([0.5, 0.25], np.float32), waited_s=None)
    again = Turn.from_json(one.to_json())
    np.testing.assert_array_equal(again.latencies_ms, one.latencies_ms)
    assert again.to_json() == one.to_json()
