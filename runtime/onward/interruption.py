"""Interruption: Ctrl-C or SIGTERM asks a run to save its state and end; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]


class Interruption:
    """Whether a signal has come.

    Args:
        number: Which one; 0 for none yet.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        """True once a signal has come."""
        return bool(self.number)

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal has ended."""
        return 128 + self.number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Notes SIGINT and SIGTERM instead of dying of them, once."""
    interruption = Interruption()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        interruption.number = number
        for item, handler in before.items():
            signal.signal(item, handler)

    try:
        for number in before:
            signal.signal(number, note)
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
