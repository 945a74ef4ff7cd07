from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.host.cpu import Cores, count_cores, find_cores

ROOT = Path(__file__).parents[3]
LAW = settings(max_examples=200, deadline=None)
HOST = 64

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
33 31 0:30 {root} /sys/fs/cgroup/cpu,cpuacct ro,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 {root} /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset
"""
V2_MOUNT = "30 23 0:26 {root} /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def look(root: Path) -> Cores:
    return find_cores(root, num_affine=HOST, num_host=HOST)


def v1(quota: object, folder: str = "", period: object = 100_000) -> dict[str, str]:
    at = f"sys/fs/cgroup/cpu,cpuacct{folder}"
    return {f"{at}/cpu.cfs_quota_us": f"{quota}\n", f"{at}/cpu.cfs_period_us": f"{period}\n"}


def test_this_machine_is_looked_at() -> None:
    cores = find_cores()
    assert 1 <= cores.count <= cores.host == os.cpu_count()
    assert count_cores() == cores.count
    if hasattr(os, "sched_getaffinity"):
        assert cores.count <= len(os.sched_getaffinity(0))


def test_a_system_without_control_groups_is_limited_by_affinity_alone(tmp_path: Path) -> None:
    assert find_cores(tmp_path, num_affine=8, num_host=8) == Cores(8, 8)
    assert find_cores(tmp_path, num_affine=3, num_host=8) == Cores(3, 8, "affinity")


def test_docker_with_version_1_shows_the_container_by_the_hosts_name(tmp_path: Path) -> None:
    group = "/docker/4b1c"
    files = {
        "proc/self/cgroup": f"12:cpuset:{group}\n4:cpu,cpuacct:{group}\n1:name=systemd:{group}\n",
        "proc/self/mountinfo": V1_MOUNTS.format(root=group),
    }
    assert look(tree(tmp_path, files | v1(150_000))) == Cores(2, HOST, "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us")


def test_docker_with_version_2_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
    }
    assert look(tree(tmp_path, files)) == Cores(1, HOST, "/sys/fs/cgroup/cpu.max")


@pytest.mark.parametrize(("pod", "container", "expected"), [("200000", "max", 2), ("800000", "300000", 3)])
def test_kubernetes_limits_a_group_or_any_above_it(tmp_path: Path, pod: str, container: str, expected: int) -> None:
    slices = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1f.slice"
    group = f"{slices}/cri-containerd-77.scope"
    files = {
        "proc/self/cgroup": f"0::{group}\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        f"sys/fs/cgroup{slices}/cpu.max": f"{pod} 100000\n",
        f"sys/fs/cgroup{group}/cpu.max": f"{container} 100000\n",
    }
    cores = look(tree(tmp_path, files))
    assert cores.count == expected
    assert cores.limited_by == f"/sys/fs/cgroup{slices if pod == '200000' else group}/cpu.max"


def test_a_neighbours_limit_is_not_ours(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/ours\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        "sys/fs/cgroup/ours/cpu.max": "max 100000\n",
        "sys/fs/cgroup/theirs/cpu.max": "100000 100000\n",
        "sys/fs/cgroup/ours/child/cpu.max": "100000 100000\n",
    }
    assert look(tree(tmp_path, files)) == Cores(HOST, HOST)


def test_a_hybrid_system_limits_in_version_1_with_version_2_beside_it(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice\n0::/user.slice/session.scope\n",
        "proc/self/mountinfo": V1_MOUNTS.format(root="/")
        + "35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/unified/user.slice/session.scope/cgroup.procs": "1\n",
    }
    assert look(tree(tmp_path, files | v1(-1) | v1(400_000, "/user.slice"))).count == 4


def test_the_smaller_of_both_versions_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:cpu,cpuacct:/\n0::/a:b\n",
        "proc/self/mountinfo": V1_MOUNTS.format(root="/") + "35 31 0:32 / /unified rw - cgroup2 cgroup2 rw\n",
        "unified/a:b/cpu.max": "200000 100000\n",
    }
    assert look(tree(tmp_path, files | v1(300_000))) == Cores(2, HOST, "/unified/a:b/cpu.max")


def test_a_group_outside_of_what_is_mounted_is_taken_for_the_mounted_one(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "4:cpu,cpuacct:/\n", "proc/self/mountinfo": V1_MOUNTS.format(root="/docker/4b1c")}
    assert look(tree(tmp_path, files | v1(100_000))).count == 1


def test_a_group_beside_the_namespaces_root_is_limited_by_nothing_in_it(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/../other\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
        "sys/fs/other/cpu.max": "100000 100000\n",
    }
    assert look(tree(tmp_path, files)) == Cores(HOST, HOST)


def test_names_with_spaces_and_backslashes_are_read(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/my pods/back\\slash/job\n",
        "proc/self/mountinfo": (
            r"30 23 0:26 /my\040pods/back\134slash /mnt/c\040groups rw - cgroup2 cgroup2 rw,nsdelegate" + "\n"
        ),
        "mnt/c groups/job/cpu.max": "100000 100000\n",
    }
    assert look(tree(tmp_path, files)) == Cores(1, HOST, "/mnt/c groups/job/cpu.max")


@LAW
@given(st.integers(1, 10**9), st.integers(1, 10**6))
def test_a_quota_is_rounded_up_to_whole_cores(
    tmp_path_factory: pytest.TempPathFactory, quota: int, period: int
) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        "sys/fs/cgroup/cpu.max": f"{quota} {period}\n",
    }
    cores = look(tree(tmp_path_factory.getbasetemp() / "quota", files))
    assert 1 <= cores.count <= HOST
    if cores.count < HOST:
        assert (cores.count - 1) * period < quota <= cores.count * period
    else:
        assert quota > (HOST - 1) * period


@LAW
@given(st.lists(st.one_of(st.none(), st.integers(1, 100)), min_size=1, max_size=5), st.integers(1, HOST))
def test_the_smallest_of_affinity_and_every_group_above_us_counts(
    tmp_path_factory: pytest.TempPathFactory, limits: list[int | None], num_affine: int
) -> None:
    folders = ["/" + "/".join(map(str, range(depth))) for depth in range(len(limits))]
    files = {"proc/self/cgroup": f"0::{folders[-1]}\n", "proc/self/mountinfo": V2_MOUNT.format(root="/")}
    for folder, limit in zip(folders, limits, strict=True):
        files[f"sys/fs/cgroup{folder}/cpu.max"] = f"{limit * 100_000 if limit else 'max'} 100000\n"
    root = tree(tmp_path_factory.mktemp("nested"), files)
    cores = find_cores(root, num_affine=num_affine, num_host=HOST)
    assert cores.count == min([num_affine, *filter(None, limits)])
    assert bool(cores.limited_by) == (cores.count < HOST)


@LAW
@given(st.text(), st.text(), st.text())
def test_what_is_malformed_limits_nothing_and_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, cgroup: str, mountinfo: str, quota: str
) -> None:
    root = tmp_path_factory.getbasetemp() / "malformed"
    encoded = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo, "sys/fs/cgroup/cpu.max": quota}
    for name, text in encoded.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert 1 <= look(root).count <= HOST


@pytest.mark.parametrize(
    "quota",
    ["", "max", "max 100000", "-1 100000", "0 100000", "100000 0", "1e5 100000", "100000", "1 2 3", "²  100000"],
)
def test_a_quota_that_says_nothing_limits_nothing(tmp_path: Path, quota: str) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": V2_MOUNT.format(root="/"),
        "sys/fs/cgroup/cpu.max": quota,
    }
    assert look(tree(tmp_path, files)) == Cores(HOST, HOST)


def test_a_folder_where_a_file_should_be_limits_nothing(tmp_path: Path) -> None:
    for name in ("proc/self/cgroup", "proc/self/mountinfo"):
        (tmp_path / name).mkdir(parents=True)
    assert look(tmp_path) == Cores(HOST, HOST)


def test_what_limits_is_said() -> None:
    assert Cores(2, 64, "/sys/fs/cgroup/cpu.max").describe() == "2 of 64, limited by /sys/fs/cgroup/cpu.max"
    assert Cores(8, 8).describe() == "8 of 8"


def test_looking_is_cheap() -> None:
    count_cores()
    began = time.thread_time()  # not the time that others take from it
    for _ in range(20):
        count_cores()
    assert (time.thread_time() - began) / 20 < 5e-3  # 0.24 ms on two cores; the rest is for a slower machine


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_is_counted_for_real() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); from onward.host.cpu import count_cores\nprint(count_cores())"
    )
    assert in_a_process(code) == "1"


@pytest.fixture
def group_of_one_core() -> Iterator[Path]:
    """A real control group that is limited to one core; the path of its `cgroup.procs`."""
    v1, v2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
    parent = v1 if v1.is_dir() else v2
    group = parent / f"onward-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"this process cannot make a control group under {parent}: {error.strerror}")
    try:
        name, text = ("cpu.cfs_quota_us", "100000") if parent == v1 else ("cpu.max", "100000 100000")
        if not (group / name).exists():
            pytest.skip(f"{parent} does not limit the processor")
        (group / name).write_text(text)
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def test_a_real_control_group_limits_the_processes_in_it(group_of_one_core: Path) -> None:
    code = (
        f"import os; from pathlib import Path; Path({str(group_of_one_core)!r}).write_text(str(os.getpid()))\n"
        "from onward.host.cpu import find_cores; from onward.backends import Threads\n"
        "print(find_cores().count, Threads().count, find_cores().limited_by)"
    )
    count, threads, limited_by = in_a_process(code).split()
    assert (count, threads) == ("1", "1")
    if os.cpu_count() != 1:
        assert limited_by.startswith(str(group_of_one_core.parent))


def in_a_process(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()
