"""Cores: how many this process may use, and what limits them.

A container's CPU limit is a quota of its control group, which neither affinity nor `os.cpu_count` shows: a process
limited to one core of 64 would start 64 threads and be put to sleep for most of each period.

Source: the kernel's admin-guide/cgroup-v2, `cpu.max`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from onward.host.control_groups import find_folders, read_text

__all__ = ["Cores", "count_cores", "find_cores"]


@dataclass(frozen=True)
class Cores:
    """What was found.

    Args:
        count: Cores that this process may use: at least 1, a fraction counts as a whole one.
        host: Cores of the machine.
        limited_by: `affinity`, or the file of the control group that sets the limit; empty where nothing does.
    """

    count: int
    host: int
    limited_by: str = ""

    def describe(self) -> str:
        """For people: `2 of 64, limited by /sys/fs/cgroup/cpu.max`."""
        return f"{self.count} of {self.host}" + (f", limited by {self.limited_by}" if self.limited_by else "")


def count_cores(root: Path | str = "/") -> int:
    """How many cores this process may use; `root` is as for `find_cores`."""
    return find_cores(root).count


def find_cores(root: Path | str = "/", *, num_affine: int | None = None, num_host: int | None = None) -> Cores:
    """The smallest of affinity and of every CPU limit on the way from this process's control group up.

    Args:
        root: Where `proc` and the mounted control groups are found.
        num_affine: Cores that affinity leaves; by default the system is asked.
        num_host: Cores of the machine; by default the system is asked.

    Returns:
        What limits us; a file that cannot be read or understood limits nothing.
    """
    host = num_host or os.cpu_count() or 1
    affine = num_affine or _count_affine() or host
    limits = [(affine, "affinity" if affine < host else "")]
    limits += [(cores, str(file)) for file, cores in _quotas(Path(root))]
    count, limited_by = min(limits, key=lambda limit: limit[0])  # of equals the first
    return Cores(count, host, limited_by if count < host else "")


def _count_affine() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _quotas(root: Path) -> Iterator[tuple[PurePosixPath, int]]:
    """Each file that limits us, and to how many cores."""
    for version, folder in find_folders("cpu", root):
        name = "cpu.max" if version == 2 else "cpu.cfs_quota_us"
        quota = read_text(root, folder / name)
        if version == 1:
            quota += " " + read_text(root, folder / "cpu.cfs_period_us")
        if (cores := _whole_cores(quota)) is not None:
            yield folder / name, cores


def _whole_cores(quota: str) -> int | None:
    """`quota period`, in µs, in cores rounded up; None for `max`, -1 and what is malformed."""
    match quota.split():
        case [used, period] if re.fullmatch("[0-9]{1,18}", used) and re.fullmatch("[0-9]{1,18}", period):
            return max(1, -(-int(used) // int(period))) if int(used) and int(period) else None
        case _:
            return None
