"""Control groups: where the files are that limit this process.

Sources: cgroups(7); proc_pid_mountinfo(5); the kernel's admin-guide/cgroup-v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["find_folders", "read_text"]


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


def find_folders(controller: str, root: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """The folders of this process's group and of every one above it: what is set there limits us.

    Args:
        controller: `cpu` or `memory`.
        root: Where `proc` and the mounted control groups are found.

    Returns:
        Version of the hierarchy, 1 or 2, and folder of each.
    """
    groups = _own_groups(read_text(root, PurePosixPath("/proc/self/cgroup")), controller)
    for mount in _mounts(read_text(root, PurePosixPath("/proc/self/mountinfo")), controller):
        if mount.version in groups:
            yield from ((mount.version, folder) for folder in _folders(mount, groups[mount.version]))


def read_text(root: Path, file: PurePosixPath | str) -> str:
    """What a file of the system holds, below `root`; nothing where it cannot be read."""
    try:
        return (root / PurePosixPath(file).relative_to("/")).read_text(errors="surrogateescape")
    except (OSError, ValueError):
        return ""


def _own_groups(text: str, controller: str) -> dict[int, PurePosixPath]:
    """Version of the hierarchy -> this process's group in it; of version 1 the one that has the controller."""
    groups = {}
    for line in text.splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not path.startswith("/"):
            continue
        if number == "0" and not controllers:
            groups[2] = PurePosixPath(path)
        elif controller in controllers.split(","):
            groups[1] = PurePosixPath(path)
    return groups


def _mounts(text: str, controller: str) -> Iterator[Mount]:
    """The mounted hierarchies that have the controller; there may be one of each version."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - cgroup")
        fields, described = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or not fields[3].startswith("/") or not fields[4].startswith("/"):
            continue
        root, point = PurePosixPath(_unescape(fields[3])), PurePosixPath(_unescape(fields[4]))
        if described[0] == "2":
            yield Mount(2, root, point)
        elif described[0] == "" and controller in described[-1].split(","):
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


def _unescape(text: str) -> str:
    """Space, tab, newline and backslash are written in octal in mountinfo."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
