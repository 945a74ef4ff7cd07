"""Interruption: the first Ctrl-C or SIGTERM asks a run to save its state and stop; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]


class Interruption:
    """Whether a signal was received.

    Args:
        number: The signal; 0 if there was none.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        """True once a signal was received."""
        return bool(self.number)

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a program ended by this signal."""
        return 128 + self.number


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Record the first SIGINT or SIGTERM instead of ending; then restore the handlers that were set before."""
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
