"""Tally: what a campaign of kills has seen of one command."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = ["NOTHING", "Process", "Tally", "kind_of", "stop_after"]

#: The result that was there before: none.
NOTHING = "nothing"


class Process(Protocol):
    """As much of `subprocess.Popen` as a kill needs."""

    returncode: Any

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; standard output and standard error."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal to it."""


@dataclass
class Tally:
    """What was seen of one command.

    Args:
        command: Its name.
        results: What a kill left at the output -> number of kills.
        num_resumed: Kills after which `--resume` had something to continue.
        num_completed: Runs that were completed after their kills and compared with an undisturbed one.
        leftovers: Kind of a file beside the output -> number of kills that left it.
        broken: What breaks the law, one line for each kill.
    """

    command: str
    results: Counter[str] = field(default_factory=Counter)
    num_resumed: int = 0
    num_completed: int = 0
    leftovers: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    @property
    def num_kills(self) -> int:
        """How many runs were killed."""
        return self.results.total()

    @property
    def num_broken(self) -> int:
        """How often the law was broken."""
        return len(self.broken)

    @classmethod
    def load(cls, path: Path) -> Tally:
        """Read what `save` wrote."""
        found = json.loads(path.read_text())
        return cls(**found | {name: Counter(found[name]) for name in ("results", "leftovers")})

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(vars(self)) + "\n")

    def add(self, result: str, leftovers: Iterable[str], known: Iterable[str]) -> None:
        """Count a kill.

        Args:
            result: What is at the output.
            leftovers: The names beside the output.
            known: The kinds of names that the command may leave.
        """
        kinds = {kind_of(name) for name in leftovers}
        self.results[result] += 1
        self.leftovers.update(kinds)
        if unknown := kinds - set(known):
            self.broken.append(f"kill {self.num_kills} left {', '.join(sorted(unknown))}")

    def check(self, holds: bool, otherwise: str) -> None:
        """Note what breaks the law."""
        if not holds:
            self.broken.append(f"after kill {self.num_kills}: {otherwise}")


def kind_of(name: str) -> str:
    """A file's name without what differs from run to run: process ids, and what mkdtemp draws."""
    return re.sub(r"\.(\d+\.part|\w{8}\.staged)$", lambda found: "." + found[1].rpartition(".")[2], name)


def stop_after(process: Process, patience_s: float) -> bool:
    """Kill a process after so many seconds; False if it has ended before."""
    try:
        process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    return bool(process.returncode == -signal.SIGKILL)
