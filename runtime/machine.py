"""Machine: what this one can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from typing import Any

from runtime.backends import Threads

__all__ = ["Finding", "Machine", "examine"]

#: Distributions that put different builds into the one folder `onnxruntime`.
ONNXRUNTIME_BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
)


@dataclass(frozen=True)
class Finding:
    """One thing that can be done here, or not, and what that means."""

    what: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Machine:
    """What was found."""

    system: str
    python: str
    num_cores: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """All findings."""
        return asdict(self)


def examine() -> Machine:
    """Look at this machine: the three floors, the providers, and what is in each other's way."""
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        num_cores=Threads().count,
        findings=(*_floors(), *_providers(), *_conflicts()),
    )


def _floors() -> list[Finding]:
    needs = {
        "predict, verify, bench": ("onnxruntime", "numpy", "pillow"),
        "train, evaluate": ("torch", "torchvision", "scikit-learn"),
        "export": ("torch", "onnx", "onnxscript", "onnx-ir", "cloudpickle"),
    }
    extras = {"train, evaluate": "training", "export": "export"}
    findings = []
    for floor, packages in needs.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        if missing and floor not in extras and any(map(_version, ONNXRUNTIME_BUILDS)):
            missing = [package for package in missing if package != "onnxruntime"]
        detail = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        if missing:
            detail = f"missing: {', '.join(missing)}. `pip install 'onward[{extras.get(floor, '')}]'` adds them."
        findings.append(Finding(floor, not missing, detail.replace("[]", "")))
    return findings


def _providers() -> list[Finding]:
    try:
        from runtime.providers import PACKAGES, SHORT_NAMES, available_providers

        there = available_providers()
    except ImportError as error:
        return [Finding("onnxruntime", False, f"does not import: {error}.")]
    return [
        Finding(
            f"--provider {short}",
            name in there,
            name if name in there else f"{name} is not in this onnxruntime" + _remedy(PACKAGES.get(name)),
        )
        for short, name in SHORT_NAMES.items()
    ]


def _remedy(package: str | None) -> str:
    return f"; it comes with {package}, installed instead of onnxruntime." if package else "."


def _conflicts() -> list[Finding]:
    builds = [build for build in ONNXRUNTIME_BUILDS if _version(build)]
    if len(builds) < 2:
        return []
    detail = (
        f"{' and '.join(builds)} are both installed and overwrite each other's files: uninstall all of them, "
        f"then install the one that you want."
    )
    return [Finding("one onnxruntime", False, detail)]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
