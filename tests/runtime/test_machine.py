from __future__ import annotations

import importlib.metadata
import json

import pytest

from runtime.machine import ONNXRUNTIME_BUILDS, Finding, Machine, examine
from runtime.providers import available_providers


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
    assert cuda.works or "it comes with onnxruntime-gpu" in cuda.detail


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
    assert "`pip install 'onward'`" in found.detail


def test_any_build_of_onnxruntime_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, onnxruntime=None, onnxruntime_gpu="1.22.0", onnxruntime_openvino=None)
    machine = examine()
    assert finding(machine, "predict, verify, bench").works
    assert "one onnxruntime" not in {item.what for item in machine.findings}


def test_two_builds_of_onnxruntime_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, onnxruntime="1.22.0", onnxruntime_gpu="1.22.0")
    conflict = finding(examine(), "one onnxruntime")
    assert not conflict.works
    assert "onnxruntime and onnxruntime-gpu" in conflict.detail
    assert {"onnxruntime", "onnxruntime-gpu"} <= set(ONNXRUNTIME_BUILDS)
