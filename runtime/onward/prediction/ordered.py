"""Ordered: work done by several threads at once, its results in the order of the tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["in_order"]

Task = TypeVar("Task")
Result = TypeVar("Result")

#: How long a consumer waits before it looks whether it should stop.
LOOK_EVERY_S = 0.2
#: How long an ended run waits for a thread that reads from a pipe which nobody writes to.
PATIENCE_S = 5.0


def in_order(
    take: Callable[[], Task | None],
    work: Callable[[Task], Result],
    *,
    num_workers: int,
    ahead: int,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Result]:
    """Take tasks, work on them in threads, and give the results in the order in which the tasks were taken.

    Tasks are taken by one thread at a time. At most `num_workers + ahead` of them are taken and not yet given.

    Args:
        take: The next task, None at the end.
        work: Called by several threads at once.
        num_workers: How many.
        ahead: How many results may wait to be given.
        stop: Looked at while waiting; once it is true, nothing more is given.

    Raises:
        BaseException: What `take` or `work` raised, after the results of all earlier tasks.
    """
    crew = _Crew(take, work, num_workers + ahead)
    threads = [threading.Thread(target=crew.run, name="onward-predict", daemon=True) for _ in range(num_workers)]
    for thread in threads:
        thread.start()
    try:
        yield from crew.results(stop)
    finally:
        crew.dismiss(num_workers)
        for thread in threads:
            thread.join(PATIENCE_S)


class _Crew(Generic[Task, Result]):
    """What the threads share."""

    def __init__(self, take: Callable[[], Task | None], work: Callable[[Task], Result], room: int) -> None:
        self.take, self.work = take, work
        self.taking = threading.Lock()
        self.room = threading.Semaphore(room)
        self.changed = threading.Condition()
        self.done: dict[int, Result | _Raised] = {}
        self.num_taken = 0
        self.is_over = False

    def run(self) -> None:
        """What a thread does until there is nothing left to take."""
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
        """In order, until all are given or `stop` says so."""
        index = 0
        while True:
            with self.changed:
                while index not in self.done:
                    if stop() or (self.is_over and index >= self.num_taken):
                        return
                    self.changed.wait(LOOK_EVERY_S)
                result = self.done.pop(index)
            self.room.release()
            if isinstance(result, _Raised):
                raise result.error
            yield result
            del result
            index += 1

    def dismiss(self, num_workers: int) -> None:
        """Nothing more is to be taken."""
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
    """An error on its way to whoever consumes the results."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
