from __future__ import annotations

import sys
from pathlib import Path

import pytest

from onward.host.memory import MainMemory, find_main_memory

TOTAL = 8 * 2**30
V1 = "33 31 0:30 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"


def machine(root: Path, mounts: str, files: dict[str, str]) -> Path:
    files = {
        "proc/meminfo": f"MemTotal:       {TOTAL // 1024} kB\nMemFree: 1 kB\n",
        "proc/self/cgroup": "4:memory:/a/b\n1:cpu:/c\n0::/a/b\n",
        "proc/self/mountinfo": mounts,
    } | files
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("mounts", "name"), [(V1, "memory/{}/memory.limit_in_bytes"), (V2, "{}/memory.max")], ids=["v1", "v2"]
)
def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path, mounts: str, name: str) -> None:
    limits = {"a": "1000000\n", "a/b": "2000000\n", "a/b/c": "10\n", "z": "10\n"}
    files = {f"sys/fs/cgroup/{name.format(folder)}": text for folder, text in limits.items()}
    assert find_main_memory(machine(tmp_path, mounts, files)) == MainMemory(TOTAL, 1_000_000)


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", f"{TOTAL}\n", "", "much"])
def test_what_leaves_all_of_it_is_no_limit(tmp_path: Path, text: str) -> None:
    root = machine(tmp_path, V2, {"sys/fs/cgroup/a/b/memory.max": text})
    assert find_main_memory(root) == MainMemory(TOTAL)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert find_main_memory(tmp_path) == MainMemory(None)


@pytest.mark.skipif(sys.platform == "win32", reason="read from /proc or sysconf")
def test_this_machine_has_memory() -> None:
    memory = find_main_memory()
    assert memory.total_bytes is not None
    assert 2**26 < memory.total_bytes < 2**50
