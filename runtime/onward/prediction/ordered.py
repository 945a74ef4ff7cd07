"""Ordered: several threads work on tasks; the results come in the order of the tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["in_order"]

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How often a waiting consumer checks whether it should stop.
POLL_S = 0.2
#: How long to wait at the end for a thread that may read from a pipe to which nobody writes.
JOIN_TIMEOUT_S = 5.0


def in_order(
    take: Callable[[], Task | None],
    work: Callable[[Task], Result],
    *,
    num_workers: int,
    ahead: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Take tasks, work on them in threads, and yield the results in the order of the tasks.

    One thread at a time takes a task. At most `num_workers + ahead` tasks are taken whose results are not yet yielded.

    Args:
        take: Returns the next task, None at the end.
        work: Called by several threads at the same time.
        num_workers: Number of threads.
        ahead: Number of results that may wait for an earlier one.
        stop: Checked while waiting; once it is true, no more results are yielded.

    Raises:
        BaseException: What `take` or `work` raised, after the results of all earlier tasks.
    """
    workers = _Workers(take, work, num_workers + ahead)
    threads = [threading.Thread(target=workers.run, name="onward-predict", daemon=True) for _ in range(num_workers)]
    for thread in threads:
        thread.start()
    try:
        yield from workers.results(stop)
    finally:
        workers.end(num_workers)
        for thread in threads:
            thread.join(JOIN_TIMEOUT_S)


class _Workers(Generic[Task, Result]):
    """State that the threads share."""

    def __init__(self, take: Callable[[], Task | None], work: Callable[[Task], Result], room: int) -> None:
        self.take, self.work = take, work
        self.taking = threading.Lock()
        self.room = threading.Semaphore(room)
        self.changed = threading.Condition()
        self.done: dict[int, Result | _Raised] = {}
        self.num_taken = 0
        self.is_over = False

    def run(self) -> None:
        """One thread's loop, until there is no task left."""
        while True:
            self.room.acquire()
            with self.taking:
                if self.is_over:
                    self.room.release()
                    return
                index, task = self.num_taken, self._take()
                if task is None:
                    self.is_over = True
                    self.room.release()
                    with self.changed:
                        self.changed.notify()
                    return
                self.num_taken += 1
            result = task if isinstance(task, _Raised) else self._attempt(task)
            del task
            with self.changed:
                self.done[index] = result
                self.changed.notify()
            del result

    def results(self, stop: Callable[[], bool]) -> Iterator[Result]:
        """Yield results in order, to the end or until `stop` is true."""
        index = 0
        while True:
            with self.changed:
                while index not in self.done:
                    if stop() or (self.is_over and index >= self.num_taken):
                        return
                    self.changed.wait(POLL_S)
                result = self.done.pop(index)
            self.room.release()
            if isinstance(result, _Raised):
                raise result.error
            yield result
            del result
            index += 1

    def end(self, num_workers: int) -> None:
        """Let every thread end; no more tasks are taken."""
        self.is_over = True
        for _ in range(num_workers):
            self.room.release()

    def _take(self) -> Task | _Raised | None:
        try:
            return self.take()
        except BaseException as error:
            self.is_over = True
            return _Raised(error)

    def _attempt(self, task: Task) -> Result | _Raised:
        try:
            return self.work(task)
        except BaseException as error:
            return _Raised(error)


class _Raised:
    """An error on its way to the consumer of the results."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
