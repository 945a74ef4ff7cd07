"""Machine: what this one can run, and why not the rest."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from typing import Any

from onward.host.cpu import Cores, find_cores

__all__ = ["Finding", "Machine", "examine"]

#: Distributions that put different builds into the one folder `onnxruntime`.
ONNXRUNTIME_BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
)
SHARED_FILE = "onnxruntime/__init__.py"


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
    cores: Cores
    findings: tuple[Finding, ...]

    @property
    def num_cores(self) -> int:
        """Cores that this process may use."""
        return self.cores.count

    def to_json(self) -> dict[str, Any]:
        """All findings."""
        return asdict(self) | {"num_cores": self.num_cores}


def examine() -> Machine:
    """Look at this machine: its cores, the three floors, the providers, and what is in each other's way."""
    cores = find_cores()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=cores,
        findings=(Finding("cores", True, f"{cores.describe()}."), *_floors(), *_providers(), *_conflicts()),
    )


def _floors() -> list[Finding]:
    build = next(filter(_version, ONNXRUNTIME_BUILDS), "onnxruntime")
    needs = {
        "predict, verify, bench": (build, "numpy", "pillow"),
        "train, evaluate": ("torch", "torchvision", "scikit-learn"),
        "export": ("torch", "onnx", "onnxscript", "onnx-ir", "cloudpickle"),
    }
    extras = {"train, evaluate": "training", "export": "export"}
    findings = []
    for floor, packages in needs.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        detail = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        if missing:
            detail = f"missing: {', '.join(missing)}. `pip install 'onward[{extras.get(floor, '')}]'` adds them."
        findings.append(Finding(floor, not missing, detail.replace("[]", "")))
    return findings


def _providers() -> list[Finding]:
    try:
        from onward.backends.providers import PACKAGES, SHORT_NAMES, available_providers

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
    builds = [build for build in ONNXRUNTIME_BUILDS if _fills_the_folder(build)]
    detail = _overwritten(builds) if len(builds) > 1 else _disagreement(builds[0]) if builds else ""
    return [Finding("one onnxruntime", False, detail)] if detail else []


def _overwritten(builds: list[str]) -> str:
    installs = " or ".join(f"`pip install {build}`" for build in builds)
    return (
        f"{' and '.join(builds)} are installed and overwrite each other's files in the one folder onnxruntime. "
        f"`pip uninstall -y {' '.join(builds)}`, then the one that you want: {installs}."
    )


def _disagreement(build: str) -> str:
    """What the folder says of itself, where it is something else than what pip installed."""
    try:
        import onnxruntime as ort
    except ImportError:
        return ""  # `_providers` says so
    found = f"{getattr(ort, 'package_name', build)} {ort.__version__}"
    expected = f"{build} {(_version(build) or '').partition('+')[0]}"
    if found == expected:
        return ""
    others = dict.fromkeys((build, found.partition(" ")[0]))
    return (
        f"pip has {expected}, and what is imported is {found}: one was installed over the other, or another folder "
        f"comes first on sys.path. `pip uninstall -y {' '.join(others)}`, then `pip install {build}`."
    )


def _fills_the_folder(build: str) -> bool:
    """Whether it is installed as a build of its own; there are plugins of the same name, beside the folder."""
    try:
        files = importlib.metadata.distribution(build).files
    except importlib.metadata.PackageNotFoundError:
        return False
    return files is None or any(file.as_posix() == SHARED_FILE for file in files)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
