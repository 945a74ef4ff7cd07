"""Doctor: what this machine can run, and what is missing for the rest."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from typing import Any

from onward.errors import install_command
from onward.host.cpu import Cores, find_cores

__all__ = ["Finding", "Machine", "examine"]

#: Packages that install different builds of onnxruntime into the same folder `onnxruntime`.
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
    """One thing that works here or does not, with versions, or with what to do."""

    what: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Machine:
    """The machine, and what works on it."""

    system: str
    python: str
    cores: Cores
    findings: tuple[Finding, ...]

    @property
    def num_cores(self) -> int:
        """Cores that this process may use."""
        return self.cores.count

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return asdict(self) | {"num_cores": self.num_cores}


def examine() -> Machine:
    """Examine this machine: its cores, the commands, the execution providers, and packages that are in conflict."""
    cores = find_cores()
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cores=cores,
        findings=(Finding("cores", True, f"{cores.describe()}."), *_commands(), *_providers(), *_conflicts()),
    )


def _commands() -> list[Finding]:
    build = next(filter(_version, ONNXRUNTIME_BUILDS), "onnxruntime")
    needs = {
        "predict, verify, bench": (build, "numpy", "pillow"),
        "train, evaluate": ("torch", "torchvision", "scikit-learn"),
        "export": ("torch", "onnx", "onnxscript", "onnx-ir", "cloudpickle"),
    }
    findings = []
    installs = {
        "predict, verify, bench": "pip install onward",
        "train, evaluate": install_command("torch"),
        "export": install_command("onnx"),
    }
    for command, packages in needs.items():
        versions = {package: _version(package) for package in packages}
        missing = [package for package, version in versions.items() if version is None]
        detail = ", ".join(f"{package} {version}" for package, version in versions.items() if version)
        if missing:
            detail = f"missing: {', '.join(missing)}. `{installs[command]}` installs them."
        findings.append(Finding(command, not missing, detail))
    return findings


def _providers() -> list[Finding]:
    try:
        from onward.backends.providers import PACKAGES, SHORT_NAMES, available_providers

        there = available_providers()
    except ImportError as error:
        return [Finding("onnxruntime", False, f"cannot be imported: {error}.")]
    return [
        Finding(
            f"--provider {short}",
            name in there,
            name if name in there else f"{name} is not in this onnxruntime" + _remedy(PACKAGES.get(name)),
        )
        for short, name in SHORT_NAMES.items()
    ]


def _remedy(package: str | None) -> str:
    return f"; the package {package} has it: install it instead of onnxruntime." if package else "."


def _conflicts() -> list[Finding]:
    builds = [build for build in ONNXRUNTIME_BUILDS if _fills_the_folder(build)]
    detail = _overwritten(builds) if len(builds) > 1 else _disagreement(builds[0]) if builds else ""
    return [Finding("one onnxruntime", False, detail)] if detail else []


def _overwritten(builds: list[str]) -> str:
    installs = " or ".join(f"`pip install {build}`" for build in builds)
    return (
        f"{' and '.join(builds)} are installed and overwrite each other's files in the folder onnxruntime. "
        f"Run `pip uninstall -y {' '.join(builds)}`, then install the one that you want: {installs}."
    )


def _disagreement(build: str) -> str:
    """The difference between the build that pip installed and the one that is imported; empty without one."""
    try:
        import onnxruntime as ort
    except ImportError:
        return ""  # `_providers` reports it
    found = f"{getattr(ort, 'package_name', '') or build} {ort.__version__}"
    expected = f"{build} {(_version(build) or '').partition('+')[0]}"
    if found == expected:
        return ""
    others = dict.fromkeys((build, found.partition(" ")[0]))
    return (
        f"pip has installed {expected}, but {found} is imported: one was installed over the other, or another folder "
        f"comes first on sys.path. Run `pip uninstall -y {' '.join(others)}`, then `pip install {build}`."
    )


def _fills_the_folder(build: str) -> bool:
    """Whether it is installed as a build of onnxruntime; plugins of the same name do not fill its folder."""
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
