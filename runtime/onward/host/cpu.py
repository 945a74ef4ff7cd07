"""The processor: how many cores this process may use, what the processor is, and processor time it did not get.

A container's CPU limit is a quota of its control group, which neither the affinity nor `os.cpu_count` shows: a process
limited to one core of 64 would start 64 threads and be suspended for most of each period.

A timed inference is also slow when something else ran at the same time: on another virtual machine (`stolen_s`), or
on this one, so that the process's own threads waited (`waited_s`).

Sources: the kernel's admin-guide/cgroup-v2 (`cpu.max`), admin-guide/pm/cpufreq, intel_pstate and cpu-hotplug, and ABI
sysfs-devices-system-cpu; scheduler/sched-stats, `/proc/<pid>/schedstat`; proc_cpuinfo(5); proc_stat(5).
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from onward.host.control_groups import find_folders, read_system_file

__all__ = ["Cores", "CpuTimes", "Processor", "count_cores", "find_cores", "find_processor", "read_cpu_times"]


@dataclass(frozen=True)
class Cores:
    """How many cores this process may use, and what limits them.

    Args:
        count: Cores that this process may use: at least 1, a fraction is rounded up.
        host: Cores of the machine.
        limited_by: `affinity`, or the file of the control group that sets the limit; empty without a limit.
    """

    count: int
    host: int
    limited_by: str = ""

    def describe(self) -> str:
        """For people: `2 of 64, limited by /sys/fs/cgroup/cpu.max`."""
        return f"{self.count} of {self.host}" + (f", limited by {self.limited_by}" if self.limited_by else "")


def count_cores(root: Path | str = "/") -> int:
    """How many cores this process may use; `root` as for `find_cores`."""
    return find_cores(root).count


def find_cores(root: Path | str = "/", *, num_affine: int | None = None, num_host: int | None = None) -> Cores:
    """The smallest of the affinity and of all CPU limits of this process's control group and the groups above it.

    Args:
        root: The folder that holds `proc` and the mounted control groups; `/` but in tests.
        num_affine: Cores that the affinity allows. Default: as the system says.
        num_host: Cores of the machine. Default: as the system says.

    Returns:
        The limit; a file that cannot be read or understood sets none.
    """
    host = num_host or os.cpu_count() or 1
    affine = num_affine or _count_affine() or host
    limits = [(affine, "affinity" if affine < host else "")]
    limits += [(cores, str(file)) for file, cores in _quotas(Path(root))]
    count, limited_by = min(limits, key=lambda limit: limit[0])  # the first of equal ones
    return Cores(count, host, limited_by if count < host else "")


def _count_affine() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _quotas(root: Path) -> Iterator[tuple[PurePosixPath, int]]:
    """Each file that sets a limit, and the limit in cores."""
    for version, folder in find_folders("cpu", root):
        name = "cpu.max" if version == 2 else "cpu.cfs_quota_us"
        quota = read_system_file(root, folder / name)
        if version == 1:
            quota += " " + read_system_file(root, folder / "cpu.cfs_period_us")
        if (cores := _whole_cores(quota)) is not None:
            yield folder / name, cores


def _whole_cores(quota: str) -> int | None:
    """The cores of `quota period`, both in µs, rounded up; None for `max`, -1 and malformed text."""
    match quota.split():
        case [used, period] if re.fullmatch("[0-9]{1,18}", used) and re.fullmatch("[0-9]{1,18}", period):
            return max(1, -(-int(used) // int(period))) if int(used) and int(period) else None
        case _:
            return None


#: Instructions that make matrix products faster.
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
    """The processor; None is what cannot be read.

    Args:
        model: The system's name for it.
        features: Those of `FEATURES` that it has.
        governor: The clock governors of its cores, e.g. `performance` or `powersave`.
        is_boosting: Whether it may exceed its base clock.
        has_smt: Whether two threads share the units of a core.
        is_virtual: Whether it belongs to a virtual machine; known on x86 only.
    """

    model: str | None
    features: tuple[str, ...] = ()
    governor: str | None = None
    is_boosting: bool | None = None
    has_smt: bool | None = None
    is_virtual: bool | None = None


def find_processor(root: Path = Path("/")) -> Processor:
    """Read what the system says about the processor.

    Args:
        root: The folder that holds `proc` and `sys`; `/` but in tests.
    """
    described = read_system_file(root, "/proc/cpuinfo")
    flags = set((_field(described, "flags") or _field(described, "Features") or "").split())
    return Processor(
        model=_model(described) or (platform.processor() or None if root == Path("/") else None),
        features=tuple(feature for feature in FEATURES if feature in flags),
        governor=_governor(root),
        is_boosting=_boost(root),
        has_smt={"0": False, "1": True}.get(read_system_file(root, f"{CPU}/smt/active").strip()),
        is_virtual="hypervisor" in flags if _field(described, "flags") else None,
    )


def _field(text: str, name: str) -> str | None:
    """A field of the first processor."""
    found = re.search(rf"^{name}[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else None


def _model(text: str) -> str | None:
    """The name, or on ARM the numbers that identify the model."""
    if name := _field(text, "model name") or _field(text, "Model"):
        return name
    maker, part = _field(text, "CPU implementer"), _field(text, "CPU part")
    return f"ARM, implementer {maker}, part {part}" if maker and part else None


def _governor(root: Path) -> str | None:
    files = sorted((root / CPU.lstrip("/")).glob("cpu[0-9]*/cpufreq/scaling_governor"))
    names = {read_system_file(root, "/" + file.relative_to(root).as_posix()).strip() for file in files}
    return ", ".join(sorted(names - {""})) or None


def _boost(root: Path) -> bool | None:
    boost = read_system_file(root, f"{CPU}/cpufreq/boost").strip()
    no_turbo = read_system_file(root, f"{CPU}/intel_pstate/no_turbo").strip()
    return {"0": False, "1": True}.get(boost, {"0": True, "1": False}.get(no_turbo))


#: Columns of the first line of /proc/stat.
COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True)
class CpuTimes:
    """Processor time that this machine or process did not get: since some moment, or between two snapshots.

    Args:
        stolen_s: Seconds that the hypervisor gave to other machines while there was work here; None without /proc/stat.
        waited_by_thread_s: Thread's id -> seconds that it was ready to run and did not; None where the kernel does not
            say.
    """

    stolen_s: float | None
    waited_by_thread_s: Mapping[int, float] | None = field(default=None, repr=False)

    @property
    def waited_s(self) -> float | None:
        """Seconds that this process's threads were ready to run and waited for a processor, summed over threads."""
        return None if self.waited_by_thread_s is None else sum(self.waited_by_thread_s.values())

    def __sub__(self, earlier: CpuTimes) -> CpuTimes:
        """The time between two snapshots, never below 0; a thread that ended in between is not counted."""
        return CpuTimes(
            _difference(self.stolen_s, earlier.stolen_s),
            _differences(self.waited_by_thread_s, earlier.waited_by_thread_s),
        )


def read_cpu_times(root: Path = Path("/")) -> CpuTimes:
    """Take a snapshot; subtract an earlier one for the time in between.

    Args:
        root: The folder that holds `proc`; `/` but in tests.
    """
    return CpuTimes(_stolen(read_system_file(root, "/proc/stat")), _waited(root))


def _stolen(text: str) -> float | None:
    """Seconds in the column `steal`; None where the first line is missing."""
    found = re.match(r"cpu +(\d+(?: \d+)+)", text)
    ticks = [int(number) for number in found[1].split()] if found else []
    if len(ticks) < len(COLUMNS) or not any(ticks):  # a sandbox may show a file in which nothing is counted
        return None
    per_second = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    return ticks[COLUMNS.index("steal")] / per_second


def _waited(root: Path) -> dict[int, float] | None:
    """The second of three numbers is nanoseconds on a run queue; a thread that has just ended has no file."""
    waited = {}
    for file in (root / "proc/self/task").glob("*/schedstat"):
        match read_system_file(root, "/" + file.relative_to(root).as_posix()).split():
            case [_, nanoseconds, _] if nanoseconds.isdecimal():
                waited[int(file.parent.name)] = int(nanoseconds) / 1e9
    return waited or None


def _difference(later: float | None, earlier: float | None) -> float | None:
    return None if later is None or earlier is None else max(0.0, later - earlier)


def _differences(later: Mapping[int, float] | None, earlier: Mapping[int, float] | None) -> dict[int, float] | None:
    if later is None or earlier is None:
        return None
    return {thread: max(0.0, waited - earlier.get(thread, 0.0)) for thread, waited in later.items()}
