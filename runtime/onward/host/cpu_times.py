"""CPU times: who had the processors, and for how long this process waited for one.

A timed inference is slow, too, when something else ran at the same time: on another process's account
(`others_s`), on another virtual machine's (`stolen_s`), or by making our own threads wait (`waited_s`).

Sources: proc_stat(5); the kernel's scheduler/sched-stats, `/proc/<pid>/schedstat`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onward.host.control_groups import read_text

__all__ = ["CpuTimes", "read_cpu_times"]

#: Columns of the first line of /proc/stat. `user` holds `guest` already; `idle` and `iowait` are nobody's work.
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
BUSY = ("user", "nice", "system", "irq", "softirq")


@dataclass(frozen=True)
class CpuTimes:
    """Seconds of processor time since some moment: of one snapshot since the start, of a difference between two.

    Args:
        own_s: What this process used, of all its threads.
        busy_s: What was used on all processors of the machine together by anybody, this process included, in steps of
            the kernel's clock tick (commonly 0.01 s each processor); None where there is no /proc/stat.
        stolen_s: What a hypervisor gave to others while there was work here; None likewise.
        waited_by_thread_s: Thread's id -> how long it could have run and did not; None where the kernel does not say.
    """

    own_s: float
    busy_s: float | None
    stolen_s: float | None
    waited_by_thread_s: Mapping[int, float] | None = field(default=None, repr=False)

    @property
    def waited_s(self) -> float | None:
        """How long this process's threads waited for a processor though they could have run, summed over them."""
        return None if self.waited_by_thread_s is None else sum(self.waited_by_thread_s.values())

    @property
    def others_s(self) -> float | None:
        """What all but this process used; ticks are coarse, so that a few hundredths of a second say nothing."""
        return None if self.busy_s is None else max(0.0, self.busy_s - self.own_s)

    def __sub__(self, earlier: CpuTimes) -> CpuTimes:
        """What came between two snapshots, none of it below 0; a thread that ended meanwhile is not counted."""
        return CpuTimes(
            own_s=max(0.0, self.own_s - earlier.own_s),
            busy_s=_less(self.busy_s, earlier.busy_s),
            stolen_s=_less(self.stolen_s, earlier.stolen_s),
            waited_by_thread_s=_less_each(self.waited_by_thread_s, earlier.waited_by_thread_s),
        )


def read_cpu_times(root: Path = Path("/")) -> CpuTimes:
    """Take a snapshot: a difference of two says what came between.

    Args:
        root: Where `proc` is found.
    """
    seconds = _seconds(read_text(root, "/proc/stat"))
    return CpuTimes(
        own_s=time.process_time(),
        busy_s=sum(seconds[name] for name in BUSY) if seconds else None,
        stolen_s=seconds.get("steal"),
        waited_by_thread_s=_waited(root),
    )


def _seconds(text: str) -> dict[str, float]:
    """Column -> seconds; nothing where the line is not there."""
    found = re.match(r"cpu +(\d+(?: \d+)+)", text)
    ticks = [int(number) for number in found[1].split()] if found else []
    if len(ticks) < len(COLUMNS) or not any(ticks):  # a sandbox may show a file in which nothing is counted
        return {}
    per_second = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    return {name: number / per_second for name, number in zip(COLUMNS, ticks, strict=False)}


def _waited(root: Path) -> dict[int, float] | None:
    """The second of three numbers is nanoseconds on a run queue; a thread that has just ended has no file."""
    waited = {}
    for file in (root / "proc/self/task").glob("*/schedstat"):
        match read_text(root, "/" + file.relative_to(root).as_posix()).split():
            case [_, nanoseconds, _] if nanoseconds.isdecimal():
                waited[int(file.parent.name)] = int(nanoseconds) / 1e9
    return waited or None


def _less(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else max(0.0, later - earlier)


def _less_each(later: Mapping[int, float] | None, earlier: Mapping[int, float] | None) -> dict[int, float] | None:
    if later is None or earlier is None:
        return None
    return {thread: max(0.0, waited - earlier.get(thread, 0.0)) for thread, waited in later.items()}
