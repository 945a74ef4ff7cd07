"""Control groups: the folders whose files limit this process.

Sources: cgroups(7); proc_pid_mountinfo(5); the kernel's admin-guide/cgroup-v2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["find_folders", "read_system_file"]


@dataclass(frozen=True)
class _Mount:
    """A hierarchy of control groups as this process sees it.

    Args:
        version: 1 or 2.
        root: The group that is mounted.
        point: The folder where it is mounted.
    """

    version: int
    root: PurePosixPath
    point: PurePosixPath


def find_folders(controller: str, root: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """The folders of this process's group and of all groups above it: their limits apply to this process.

    Args:
        controller: `cpu` or `memory`.
        root: The folder that holds `proc` and the mounted control groups; `/` but in tests.

    Returns:
        For each group the version of its hierarchy, 1 or 2, and its folder.
    """
    groups = _own_groups(read_system_file(root, PurePosixPath("/proc/self/cgroup")), controller)
    for mount in _mounts(read_system_file(root, PurePosixPath("/proc/self/mountinfo")), controller):
        if mount.version in groups:
            yield from ((mount.version, folder) for folder in _folders(mount, groups[mount.version]))


def read_system_file(root: Path, file: PurePosixPath | str) -> str:
    """The content of a file of the system, below `root`; empty where it cannot be read."""
    try:
        return (root / PurePosixPath(file).relative_to("/")).read_text(errors="surrogateescape")
    except (OSError, ValueError):
        return ""


def _own_groups(text: str, controller: str) -> dict[int, PurePosixPath]:
    """Version of the hierarchy -> this process's group in it; in version 1, the group that has the controller."""
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


def _mounts(text: str, controller: str) -> Iterator[_Mount]:
    """The mounted hierarchies that have the controller: at most one of each version."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - cgroup")
        fields, described = before.split(" "), after.split(" ")
        if not separator or len(fields) < 6 or not fields[3].startswith("/") or not fields[4].startswith("/"):
            continue
        root, point = PurePosixPath(_unescape(fields[3])), PurePosixPath(_unescape(fields[4]))
        if described[0] == "2":
            yield _Mount(2, root, point)
        elif described[0] == "" and controller in described[-1].split(","):
            yield _Mount(1, root, point)


def _folders(mount: _Mount, group: PurePosixPath) -> list[PurePosixPath]:
    """The folders of a group and its ancestors, up to the mount.

    A container may see only its own group, mounted under the host's name for it, while the container's own paths
    start at that group as `/`: then the mounted group is the process's. A path that starts with `..` is outside what
    the namespace shows, and nothing in the namespace is an ancestor of that group.
    """
    if ".." in group.parts:
        return []
    if not group.is_relative_to(mount.root):
        return [mount.point]
    relative = group.relative_to(mount.root)
    return [mount.point / part for part in (relative, *relative.parents)]


def _unescape(text: str) -> str:
    """Decode the octal codes that mountinfo has for space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
