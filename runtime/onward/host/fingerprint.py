"""Fingerprint: the environment of a measurement, so that two measurements can be compared.

It names no host, user or path, so that a report can be shared.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any

from onward import __version__
from onward.host.cpu import Cores, Processor, find_cores, find_processor
from onward.host.doctor import ONNXRUNTIME_BUILDS
from onward.host.memory import MainMemory, find_main_memory

__all__ = ["Fingerprint", "take_fingerprint"]

#: Distributions whose versions decide how fast a model runs.
PACKAGES = ("numpy", *ONNXRUNTIME_BUILDS, "torch", "openvino")
#: How long to wait for a driver that may hang.
GRAPHICS_TIMEOUT_S = 10


@dataclass(frozen=True)
class Fingerprint:
    """The environment; None is what could not be read.

    Args:
        processor: Model, features, clock.
        cores: Cores that this process may use; their limit is `affinity` or a file's name, without its folder.
        memory: Of the machine, and the limit of a control group.
        system: Kernel and architecture, `Linux x86_64`.
        release: Version of the kernel.
        python: Version of Python.
        packages: Distribution -> version, of Onward and of the installed packages that run models.
        graphics: The GPUs: `NVIDIA H100, driver 550.54`.
        load: Processes that ran or were ready to run, on average over the minute before.
        time: The time of the measurement: UTC, ISO 8601, to the second.
    """

    processor: Processor
    cores: Cores
    memory: MainMemory
    system: str
    release: str
    python: str
    packages: Mapping[str, str]
    graphics: tuple[str, ...]
    load: float | None
    time: str

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Document.read(Fingerprint)` reads it."""
        return asdict(self)

    def differences(self, other: Fingerprint) -> list[str]:
        """The changes from this one to another: `torch 2.14.0 → 2.15.0`. Load and time are not compared."""
        mine, theirs = self._figures(), other._figures()
        return [
            *_other_instructions(self.processor.features, other.processor.features),
            *(
                _change(what, mine.get(what), theirs.get(what))
                for what in dict.fromkeys([*mine, *theirs])
                if mine.get(what) != theirs.get(what)
            ),
        ]

    def _figures(self) -> dict[str, str]:
        """What is compared -> its value as text, in the order of a report."""
        processor, cores = self.processor, self.cores
        return {
            "processor": processor.model or "unknown",
            "": f"{cores.count} core{'s' * (cores.count != 1)}",
            "cores of the machine": str(cores.host),
            "cores limited by": cores.limited_by or "nothing",
            "clock governor": processor.governor or "unknown",
            "boost": _said(processor.is_boosting, "on", "off"),
            "SMT": _said(processor.has_smt, "on", "off"),
            "machine": _said(processor.is_virtual, "virtual", "not virtual"),
            "memory": _gibibytes(self.memory.total_bytes),
            "memory limit": _gibibytes(self.memory.limit_bytes, "none"),
            "system": self.system,
            "kernel": self.release,
            "Python": self.python,
            "graphics": "; ".join(self.graphics) or "none",
            **self.packages,
        }


def take_fingerprint() -> Fingerprint:
    """Take the fingerprint of this process's environment; no package is imported for it."""
    cores = find_cores()
    return Fingerprint(
        processor=find_processor(),
        cores=Cores(cores.count, cores.host, PurePosixPath(cores.limited_by).name),
        memory=find_main_memory(),
        system=f"{platform.system()} {platform.machine()}",
        release=platform.release(),
        python=platform.python_version(),
        packages=_packages(),
        graphics=_graphics(),
        load=_load(),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _packages() -> dict[str, str]:
    versions = {"onward": __version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _graphics() -> tuple[str, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=GRAPHICS_TIMEOUT_S, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()
    return tuple(", driver ".join(line.strip().rsplit(", ", 1)) for line in said.splitlines() if line.strip())


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has no such function
        return None


def _change(what: str, mine: str | None, theirs: str | None) -> str:
    return f"{what} {mine or 'not installed'} → {theirs or 'not installed'}".strip()


def _other_instructions(mine: tuple[str, ...], theirs: tuple[str, ...]) -> list[str]:
    less = [feature for feature in mine if feature not in theirs]
    more = [feature for feature in theirs if feature not in mine]
    said = [f"{word} {', '.join(features)}" for word, features in (("without", less), ("with", more)) if features]
    return [f"instructions {', '.join(said)}"] if said else []


def _said(fact: bool | None, yes: str, no: str) -> str:
    return "unknown" if fact is None else yes if fact else no


def _gibibytes(size_bytes: int | None, missing: str = "unknown") -> str:
    return missing if size_bytes is None else f"{size_bytes / 2**30:.1f} GiB"
