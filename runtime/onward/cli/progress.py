"""Progress: bars on standard error, if that is a terminal."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, cast

from onward.printable import printable

__all__ = ["Advance", "countdown", "is_shown", "progress"]

#: Seconds between two updates of the note beside a progress bar.
NOTE_EVERY_S = 0.2


class Advance(Protocol):
    """Moves a progress bar on; it calls `note` a few times a second for the text beside the bar."""

    def __call__(self, count: int, note: Callable[[], str] | None = None) -> None:
        """Count units as done; `note` returns the text to show."""


def is_shown(as_json: bool) -> bool:
    """Whether a command says how far it is: with `--json`, only to a terminal."""
    return not as_json or _is_terminal()


@contextmanager
def progress(what: str, total: int | Callable[[], int | None], *, unit: str, quiet: bool = False) -> Iterator[Advance]:
    """Show a bar with rate and remaining time on standard error, if that is a terminal.

    Args:
        what: The text before the bar.
        total: How many units there are, or a function that counts them in another thread; it returns None if the
            number cannot be known.
        unit: What is counted, e.g. `images`.
        quiet: Show no bar.
    """
    if quiet or not _is_terminal():
        yield lambda count, note=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} {unit}/s", style="cyan")

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.completed:,.0f}" + ("" if task.total is None else f"/{task.total:,.0f}"))

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Count(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(file=cast(TextIO, _Terminal(sys.stderr))),
    )
    with bar:
        task = bar.add_task(printable(what), total=total if isinstance(total, int) else None, note="")
        if not isinstance(total, int):
            threading.Thread(target=lambda: bar.update(task, total=total()), daemon=True).start()
        noted = 0.0

        def advance(count: int, note: Callable[[], str] | None = None) -> None:
            nonlocal noted
            bar.update(task, advance=count)
            if note is not None and time.perf_counter() - noted > NOTE_EVERY_S:
                bar.update(task, note=printable(note()))
                noted = time.perf_counter()

        yield advance


@contextmanager
def countdown(what: str, left_s: Callable[[], float | None]) -> Iterator[Callable[[str], None]]:
    """Show a bar with the time that is left on standard error, if that is a terminal; a call says what was done.

    Args:
        what: The text before the bar.
        left_s: Seconds that are left, None as long as nobody knows; read by another thread.
    """
    if not _is_terminal():
        yield lambda note: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.text import Text

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            left = left_s()
            return Text("" if left is None else f"{_minutes(left)} left", style="cyan")

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        Left(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(file=cast(TextIO, _Terminal(sys.stderr))),
        transient=True,
    )
    began = time.perf_counter()
    with bar:
        task = bar.add_task(printable(what), total=None, note="")

        def show(note: str) -> None:
            done, left = time.perf_counter() - began, left_s()
            bar.update(task, completed=done, total=None if left is None else done + left, note=printable(note))

        yield show


def _is_terminal() -> bool:
    return sys.stderr.isatty()


def _minutes(seconds: float) -> str:
    """`0:09`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class _Terminal:
    """A terminal that may go away. The run goes on, to save its state, and shows nothing more."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()
