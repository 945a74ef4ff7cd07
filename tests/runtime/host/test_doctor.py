from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from onward.backends.providers import PACKAGES, available_providers
from onward.host.cpu import find_cores
from onward.host.doctor import ONNXRUNTIME_BUILDS, Finding, Machine, examine

ROOT = Path(__file__).parents[3]
beside_plain_onnxruntime = pytest.mark.skipif(
    onnxruntime.package_name not in ("", "onnxruntime"),
    reason=f"{onnxruntime.package_name} is installed, not onnxruntime",
)


@pytest.fixture(scope="module")
def machine() -> Machine:
    return examine()


def finding(machine: Machine, what: str) -> Finding:
    (found,) = (item for item in machine.findings if item.what == what)
    return found


def pretend(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Change which distributions seem to be installed."""
    real = importlib.metadata.version
    changed = {name.replace("_", "-"): version for name, version in versions.items()}

    def version(name: str) -> str:
        if name not in changed:
            return real(name)
        found = changed[name]
        if found is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_what_can_run_is_found(machine: Machine) -> None:
    assert machine.num_cores >= 1
    ready = finding(machine, "predict, verify, bench")
    assert ready.works
    assert f"numpy {importlib.metadata.version('numpy')}" in ready.detail
    assert finding(machine, "--provider cpu").works


def test_every_floor_and_provider_has_one_finding(machine: Machine) -> None:
    whats = [item.what for item in machine.findings]
    assert len(set(whats)) == len(whats)
    assert {"predict, verify, bench", "train, evaluate", "export", "--provider cpu", "--provider cuda"} <= set(whats)


def test_a_provider_works_where_onnxruntime_has_it(machine: Machine) -> None:
    cuda = finding(machine, "--provider cuda")
    assert cuda.works is ("CUDAExecutionProvider" in available_providers())
    assert cuda.works or "the package onnxruntime-gpu has it" in cuda.detail


def test_the_json_form_holds_every_finding(machine: Machine) -> None:
    document = json.loads(json.dumps(machine.to_json()))
    assert len(document["findings"]) == len(machine.findings)
    assert set(document["findings"][0]) == {"what", "works", "detail"}


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, torch=None)
    for floor, extra in (("train, evaluate", "training"), ("export", "export")):
        found = finding(examine(), floor)
        assert not found.works
        assert "missing: torch" in found.detail
        assert f"onward[{extra}]" in found.detail
    assert finding(examine(), "predict, verify, bench").works


def test_a_missing_package_of_the_ground_floor_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, pillow=None)
    found = finding(examine(), "predict, verify, bench")
    assert not found.works
    assert "`pip install onward`" in found.detail


def test_any_build_of_onnxruntime_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, onnxruntime=None, onnxruntime_gpu="1.22.0", onnxruntime_openvino=None)
    found = finding(examine(), "predict, verify, bench")
    assert found.works
    assert "onnxruntime-gpu 1.22.0" in found.detail


def test_the_cores_and_what_limits_them_are_found(machine: Machine) -> None:
    cores = find_cores()
    assert machine.cores == cores
    assert finding(machine, "cores").detail == f"{cores.describe()}."
    document = machine.to_json()
    assert document["num_cores"] == document["cores"]["count"] == cores.count


def test_one_build_that_is_what_it_says_is_no_conflict(machine: Machine) -> None:
    assert "one onnxruntime" not in {item.what for item in machine.findings}


@beside_plain_onnxruntime
def test_two_builds_of_onnxruntime_are_a_conflict_with_the_commands_that_end_it(tmp_path: Path) -> None:
    for build in ("onnxruntime-gpu", "onnxruntime-qnn"):
        install(tmp_path, build, "1.22.0", "onnxruntime/__init__.py")
    detail = conflict(tmp_path)
    assert "onnxruntime and onnxruntime-gpu and onnxruntime-qnn are installed and overwrite" in detail
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu onnxruntime-qnn`, then" in detail
    assert "`pip install onnxruntime` or `pip install onnxruntime-gpu` or `pip install onnxruntime-qnn`" in detail


@beside_plain_onnxruntime
@pytest.mark.parametrize("build", [build for build in ONNXRUNTIME_BUILDS if build != "onnxruntime"])
def test_every_build_that_fills_the_folder_is_known(tmp_path: Path, build: str) -> None:
    install(tmp_path, build, "1.22.0", "onnxruntime/__init__.py")
    assert f"onnxruntime and {build} are installed" in conflict(tmp_path)
    assert set(PACKAGES.values()) <= set(ONNXRUNTIME_BUILDS)


@beside_plain_onnxruntime
def test_a_plugin_beside_the_folder_is_no_conflict(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime-qnn", "2.7.0", "onnxruntime_qnn/__init__.py")
    assert conflict(tmp_path) == ""


@beside_plain_onnxruntime
def test_a_folder_of_another_version_than_pip_knows_is_a_conflict(tmp_path: Path) -> None:
    install(tmp_path, "onnxruntime", "1.2.3", "onnxruntime/__init__.py")
    detail = conflict(tmp_path)
    assert f"pip has installed onnxruntime 1.2.3, but onnxruntime {onnxruntime.__version__} is imported" in detail
    assert "`pip uninstall -y onnxruntime`, then `pip install onnxruntime`" in detail


@beside_plain_onnxruntime
@pytest.mark.skipif(not onnxruntime.package_name, reason="this onnxruntime does not say which build it is")
def test_a_folder_of_another_build_than_pip_knows_is_a_conflict(tmp_path: Path) -> None:
    """As it is left when onnxruntime was installed over another build, which was uninstalled then."""
    folder, ignored = tmp_path / "onnxruntime", shutil.ignore_patterns("__pycache__", "build_and_package_info.py")
    shutil.copytree(Path(onnxruntime.__file__).parent, folder, ignore=ignored, copy_function=os.symlink)
    (folder / "capi/build_and_package_info.py").write_text(
        f"package_name = 'onnxruntime-gpu'\n__version__ = '{onnxruntime.__version__}'\ncuda_version = '12.8'\n"
    )
    detail = conflict(tmp_path)
    assert f"onnxruntime-gpu {onnxruntime.__version__} is imported: one was installed over the other" in detail
    assert "`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install onnxruntime`" in detail


def install(folder: Path, name: str, version: str, file: str) -> None:
    """What pip leaves of a distribution, for `importlib.metadata` to find."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{file},,\n{info.name}/METADATA,,\n")


def conflict(folder: Path) -> str:
    """What `examine` says of the builds of onnxruntime, in a process that finds this folder first."""
    code = (
        "from onward.host.doctor import examine\n"
        "print(*(item.detail for item in examine().findings if item.what == 'one onnxruntime'))"
    )
    environment = os.environ | {"PYTHONPATH": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()
