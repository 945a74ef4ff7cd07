"""Main memory: how much there is, and how much of it this process may use.

Sources: proc_meminfo(5); the kernel's admin-guide/cgroup-v2, `memory.max`, and cgroup-v1/memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onward.host.control_groups import find_folders, read_system_file

__all__ = ["MainMemory", "find_main_memory"]


@dataclass(frozen=True)
class MainMemory:
    """The memory of the machine, and how much of it this process may use.

    Args:
        total_bytes: Memory of the machine; None where it cannot be read.
        limit_bytes: The limit of a control group; None where no group limits it.
    """

    total_bytes: int | None
    limit_bytes: int | None = None


def find_main_memory(root: Path = Path("/")) -> MainMemory:
    """The machine's memory, and the smallest limit of this process's control group and the groups above it.

    Args:
        root: The folder that holds `proc` and the mounted control groups; `/` but in tests.
    """
    total = _total_bytes(root)
    limit = min(_limits(root), default=None)
    return MainMemory(total, limit if limit is not None and (total is None or limit < total) else None)


def _total_bytes(root: Path) -> int | None:
    if found := re.search(r"^MemTotal:\s+(\d+) kB$", read_system_file(root, "/proc/meminfo"), re.MULTILINE):
        return int(found[1]) * 1024
    try:  # macOS
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if root == Path("/") else None
    except (AttributeError, OSError, ValueError):
        return None


def _limits(root: Path) -> Iterator[int]:
    """All limits in bytes. Without one, a file says `max`, or in version 1 nearly 2⁶³, more than any machine has."""
    for version, folder in find_folders("memory", root):
        text = read_system_file(root, folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")).strip()
        if re.fullmatch("[0-9]{1,18}", text):
            yield int(text)
