"""Processor: its model, what decides its speed, and whether it is a machine's or a virtual one's.

Sources: proc_cpuinfo(5); the kernel's admin-guide/pm/cpufreq, intel_pstate and cpu-hotplug, and ABI
sysfs-devices-system-cpu.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

from onward.host.control_groups import read_text

__all__ = ["Processor", "find_processor"]

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
