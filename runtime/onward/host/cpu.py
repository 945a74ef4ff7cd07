"""Control groups: where the files are that limit this process.

Sources: cgroups(7); proc_pid_mountinfo(5); the kernel's admin-guide/cgroup-v2.

Cores: how many this process may use, and what limits them.

A container's CPU limit is a quota of its control group, which neither affinity nor `os.cpu_count` shows: a process
limited to one core of 64 would start 64 threads and be put to sleep for most of each period.

Source: the kernel's admin-guide/cgroup-v2, `cpu.max`.

Processor: its model, what decides its speed, and whether it is a machine's or a virtual one's.

Sources: proc_cpuinfo(5); the kernel's admin-guide/pm/cpufreq, intel_pstate and cpu-hotplug, and ABI
sysfs-devices-system-cpu.

CPU times: who had the processors, and for how long this process waited for one.

A timed inference is slow, too, when something else ran at the same time: on another process's account
(`others_s`), on another virtual machine's (`stolen_s`), or by making our own threads wait (`waited_s`).

Sources: proc_stat(5); the kernel's scheduler/sched-stats, `/proc/<pid>/schedstat`.
"""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

__all__ = [
    "Cores",
    "CpuTimes",
    "Processor",
    "count_cores",
    "find_cores",
    "find_folders",
    "find_processor",
    "read_cpu_times",
    "read_text",
]


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


#: Instructions that matrix products run with or, lacking them, do without.
FEATURES = (
    "sse4_2",
    "avx",
    "f16c",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
    "sme",
)
CPU = "/sys/devices/system/cpu"


@dataclass(frozen=True)
class Processor:
    """What was found; None is what cannot be read.

    Args:
        model: As the system calls it.
        features: Those of `FEATURES` that it has.
        governor: What sets its clock, `performance` or `powersave` say; of processors that differ, all of them.
        is_boosting: Whether it may go beyond its base clock.
        has_smt: Whether two threads share a core's units now.
        is_virtual: Whether a hypervisor lends it; known of x86 alone.
    """

    model: str | None
    features: tuple[str, ...] = ()
    governor: str | None = None
    is_boosting: bool | None = None
    has_smt: bool | None = None
    is_virtual: bool | None = None


def find_processor(root: Path = Path("/")) -> Processor:
    """Look at the processor.

    Args:
        root: Where `proc` and `sys` are found.
    """
    described = read_text(root, "/proc/cpuinfo")
    flags = set((_field(described, "flags") or _field(described, "Features") or "").split())
    return Processor(
        model=_model(described) or (platform.processor() or None if root == Path("/") else None),
        features=tuple(feature for feature in FEATURES if feature in flags),
        governor=_governor(root),
        is_boosting=_boost(root),
        has_smt={"0": False, "1": True}.get(read_text(root, f"{CPU}/smt/active").strip()),
        is_virtual="hypervisor" in flags if _field(described, "flags") else None,
    )


def _field(text: str, name: str) -> str | None:
    """Of the first processor."""
    found = re.search(rf"^{name}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _model(text: str) -> str | None:
    """A name, or on ARM the numbers that stand for one."""
    if name := _field(text, "model name") or _field(text, "Model"):
        return name
    maker, part = _field(text, "CPU implementer"), _field(text, "CPU part")
    return f"ARM, implementer {maker}, part {part}" if maker and part else None


def _governor(root: Path) -> str | None:
    files = sorted((root / CPU.lstrip("/")).glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = {read_text(root, "/" + file.relative_to(root).as_posix()).strip() for file in files}
    return ", ".join(sorted(names - {""})) or None


def _boost(root: Path) -> bool | None:
    boost = read_text(root, f"{CPU}/cpufreq/boost").strip()
    no_turbo = read_text(root, f"{CPU}/intel_pstate/no_turbo").strip()
    return {"0": False, "1": True}.get(boost, {"0": True, "1": False}.get(no_turbo))


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
