from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.prediction.ordered import in_order

LAW = settings(max_examples=40, deadline=None)


def taking(items: Iterator[int]) -> Callable[[], int | None]:
    return lambda: next(items, None)


def slowly(task: int) -> int:
    time.sleep(random.random() / 1000)
    return task * 2


def crew() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "onward-predict"]


@LAW
@given(st.integers(0, 60), st.integers(1, 6), st.integers(0, 4))
def test_every_result_comes_once_in_the_order_of_the_tasks(count: int, num_workers: int, ahead: int) -> None:
    found = list(in_order(taking(iter(range(count))), slowly, num_workers=num_workers, ahead=ahead))
    assert found == [2 * index for index in range(count)]
    assert not crew()


@LAW
@given(st.integers(1, 4), st.integers(0, 3))
def test_no_more_tasks_are_taken_than_workers_and_waiting_results(num_workers: int, ahead: int) -> None:
    taken: list[int] = []

    def take() -> int | None:
        taken.append(len(taken))
        return taken[-1] if len(taken) <= 30 else None

    for index, _ in enumerate(in_order(take, slowly, num_workers=num_workers, ahead=ahead)):
        # one more after this result was yielded
        assert len(taken) <= index + 1 + num_workers + ahead


@LAW
@given(st.integers(0, 20), st.sampled_from([ValueError, OSError, KeyboardInterrupt]), st.booleans())
def test_an_error_comes_after_the_results_before_it(count: int, kind: type[BaseException], in_take: bool) -> None:
    numbers = iter(range(1000))

    def take() -> int | None:
        number = next(numbers)
        if in_take and number == count:
            raise kind("pulled out")
        return number

    def work(task: int) -> int:
        if not in_take and task == count:
            raise kind("pulled out")
        return slowly(task)

    seen = []
    with pytest.raises(kind, match="pulled out"):
        for result in in_order(take, work, num_workers=3, ahead=2):
            seen.append(result)
    assert seen == [2 * index for index in range(count)]
    assert not crew()


def test_closing_the_results_ends_the_threads() -> None:
    results = in_order(taking(iter(range(1000))), slowly, num_workers=3, ahead=2)
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    results.close()  # type: ignore[attr-defined]
    assert not crew()


def test_stop_is_noticed_while_the_source_yields_nothing() -> None:
    asked, noticed = threading.Event(), threading.Event()

    def take() -> int | None:
        noticed.wait(60)
        return None

    def stop() -> bool:
        if asked.is_set():
            noticed.set()
        return asked.is_set()

    threading.Timer(0.1, asked.set).start()
    assert list(in_order(take, slowly, num_workers=2, ahead=1, stop=stop)) == []
    assert noticed.is_set(), "it waited for the source"


def test_workers_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=60)

    def work(task: int) -> int:
        together.wait()
        return task

    assert list(in_order(taking(iter(range(6))), work, num_workers=3, ahead=0)) == list(range(6))
