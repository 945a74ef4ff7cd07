from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onward.host.cpu import CpuTimes, read_cpu_times

#: Load from elsewhere can make a real measurement slow, never wrong: so long it is waited for.
PATIENCE_S = 30.0


def made(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def tick_s() -> float:
    return 1 / (os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100)


def test_the_stolen_time_is_its_own_column(tmp_path: Path, tick_s: float) -> None:
    # user nice system idle iowait irq softirq steal guest guest_nice
    text = "cpu  1000 200 30 9999 8888 4 5 60 700 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    times = read_cpu_times(made(tmp_path, {"proc/stat": text}))
    assert times.stolen_s == pytest.approx(60 * tick_s)
    assert times.waited_s is None


@pytest.mark.parametrize("text", ["", "cpu 1 2 3\n", "cpu  0 0 0 0 0 0 0 0 0 0\n", "cpu a b\n", "intr 1 2\n"])
def test_what_is_not_counted_is_none(tmp_path: Path, text: str) -> None:
    root = made(tmp_path, {"proc/stat": text} if text else {})
    times = read_cpu_times(root)
    assert (times.stolen_s, times.waited_s) == (None, None)
    difference = times - times
    assert (difference.stolen_s, difference.waited_s) == (None, None)


def test_the_waiting_of_all_threads_is_summed_and_one_that_ended_is_left_out(tmp_path: Path) -> None:
    task = "proc/self/task"
    root = made(tmp_path, {f"{task}/7/schedstat": "1 2000000000 3\n", f"{task}/8/schedstat": "1 500000000 3\n"})
    before = read_cpu_times(root)
    assert before.waited_s == pytest.approx(2.5)
    (root / task / "8" / "schedstat").unlink()
    made(root, {f"{task}/7/schedstat": "1 2250000000 3\n", f"{task}/9/schedstat": "1 125000000 3\n"})
    assert (read_cpu_times(root) - before).waited_s == pytest.approx(0.375)


def test_a_file_without_three_numbers_is_left_out(tmp_path: Path) -> None:
    files = {f"proc/self/task/{at}/schedstat": text for at, text in enumerate(("", "1 2", "a b c", "0 1000000 0"))}
    assert read_cpu_times(made(tmp_path, files)).waited_by_thread_s == {3: 0.001}


def test_a_difference_is_the_time_in_between_and_never_negative() -> None:
    before, after = CpuTimes(10.0, {1: 0.5, 2: 1.0}), CpuTimes(17.0, {1: 0.75, 2: 0.5, 3: 0.125})
    assert after - before == CpuTimes(7.0, {1: 0.25, 2: 0.0, 3: 0.125})
    assert before - after == CpuTimes(0.0, {1: 0.0, 2: 0.5})


def until(found: Callable[[CpuTimes], bool]) -> CpuTimes:
    before = read_cpu_times()
    deadline = time.monotonic() + PATIENCE_S
    while not found(read_cpu_times() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return read_cpu_times() - before


@contextmanager
def spinning(num_threads: int) -> Iterator[None]:
    """Threads that work without holding Python's lock: hashing a large block releases it."""
    stop = threading.Event()
    threads = [threading.Thread(target=_spin, args=(stop,)) for _ in range(num_threads)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _spin(stop: threading.Event) -> None:
    block = bytes(1 << 22)
    while not stop.is_set():
        hashlib.sha256(block).digest()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be bound to a core here")
def test_two_threads_on_one_core_wait_for_each_other() -> None:
    if read_cpu_times().waited_s is None:
        pytest.skip("the kernel does not say how long threads wait")
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # of this thread, and of those that it starts
    try:
        with spinning(2):
            times = until(lambda passed: (passed.waited_s or 0) > 0.2)
    finally:
        os.sched_setaffinity(0, cores)
    assert times.waited_s is not None
    assert times.waited_s > 0.2
