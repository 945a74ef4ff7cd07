"""Cores: how many this process may use, and what limits them.

A container's CPU limit is a quota of its control group, which neither affinity nor `os.cpu_count` shows: a process
limited to one core of 64 would start 64 threads and be put to sleep for most of each period.

Sources: cgroups(7); proc_pid_mountinfo(5); the kernel's admin-guide/cgroup-v2, `cpu.max`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

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


@dataclass(frozen=True)
class Mount:
    """A hierarchy of control groups as this process sees it.

    Args:
        version: 1 or 2.
        root: The group that is mounted.
        point: The folder that it is mounted on.
    """

    version: int
    root: PurePosixPath
    point: PurePosixPath


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
    groups = _own_groups(_read(root / "proc/self/cgroup"))
    for mount in _mounts(_read(root / "proc/self/mountinfo")):
        if mount.version not in groups:
            continue
        for folder in _folders(mount, groups[mount.version]):
            name = "cpu.max" if mount.version == 2 else "cpu.cfs_quota_us"
            quota = _read(root / folder.relative_to("/") / name)
            if mount.version == 1:
                quota += " " + _read(root / folder.relative_to("/") / "cpu.cfs_period_us")
            if (cores := _whole_cores(quota)) is not None:
                yield folder / name, cores


def _own_groups(text: str) -> dict[int, PurePosixPath]:
    """Version of the hierarchy -> this process's group in it; of version 1 the one that has the cpu controller."""
    groups = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _mounts(text: str) -> Iterator[Mount]:
    """The mounted hierarchies that can limit the processor; there may be one of each version."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - cgroup")
        fields, described = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or not fields[3].startswith("/") or not fields[4].startswith("/"):
            continue
        root, point = PurePosixPath(_unescape(fields[3])), PurePosixPath(_unescape(fields[4]))
        if described[0] == "2":
            yield Mount(2, root, point)
        elif described[0] == "" and "cpu" in described[-1].split(","):
            yield Mount(1, root, point)


def _folders(mount: Mount, group: PurePosixPath) -> list[PurePosixPath]:
    """The folders of a group and its ancestors, up to the mount.

    A container may see only its own group, mounted under the name that the host has for it, while its groups are
    counted from that same group as `/`: then what is mounted is ours. A group that starts with `..` is beside what
    a namespace shows, and nothing in there is an ancestor of ours.
    """
    if ".." in group.parts:
        return []
    if not group.is_relative_to(mount.root):
        return [mount.point]
    relative = group.relative_to(mount.root)
    return [mount.point / part for part in (relative, *relative.parents)]


def _whole_cores(quota: str) -> int | None:
    """`quota period`, in µs, in cores rounded up; None for `max`, -1 and what is malformed."""
    match quota.split():
        case [used, period] if re.fullmatch("[0-9]{1,18}", used) and re.fullmatch("[0-9]{1,18}", period):
            return max(1, -(-int(used) // int(period))) if int(used) and int(period) else None
        case _:
            return None


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are written in octal in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except (OSError, ValueError):
        return ""
