from __future__ import annotations

import importlib.util

import pytest

from onward.backends import BACKENDS
from onward.benchmarking.matrix import Matrix
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.spec import Selection
from onward.benchmarking.summary import choose_reference
from onward.bundle import Bundle
from onward.errors import UsageError
from onward.host.cpu import count_cores
from tests.needs import FORMATS, needs_pt2


def build(bundle: Bundle, **selection: object) -> Matrix:
    return Matrix.build({str(bundle.path): ModelUnderTest(bundle.path)}, Selection(**selection))  # type: ignore[arg-type]


def test_every_installed_backend_is_a_candidate(shared_bundle: Bundle) -> None:
    matrix = build(shared_bundle)
    with_artifact = {name for name, spec in BACKENDS.items() if spec.format in FORMATS}
    assert {item.backend for item in matrix.candidates} | set(matrix.missing) == with_artifact
    assert {item.threads for item in matrix.candidates} == {count_cores()}


def test_missing_backends_have_an_install_hint(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "openvino") else find(name))
    matrix = build(shared_bundle)
    assert [item.backend for item in matrix.candidates] == ["onnxruntime"]
    assert matrix.missing["openvino"] == "pip install 'onward[openvino]'"
    assert "onward[training]" in matrix.missing["torchscript"]
    named = build(shared_bundle, backends=["openvino"])
    assert [item.backend for item in named.candidates] == ["openvino"]  # its row will say what is missing


@needs_pt2
def test_backends_times_providers_times_threads(shared_bundle: Bundle) -> None:
    matrix = build(shared_bundle, backends=["onnxruntime", "torch"], providers=["cpu", "cuda"], threads=(1, 2))
    assert [(item.backend, item.provider, item.threads) for item in matrix.candidates] == [
        (backend, provider, threads)
        for backend in ("onnxruntime", "torch")
        for provider in ("cpu", "cuda")
        for threads in (1, 2)
    ]


def test_openvino_runs_on_the_cpu_only(shared_bundle: Bundle) -> None:
    matrix = build(shared_bundle, backends=["openvino"], providers=["cuda"])
    assert [item.provider for item in matrix.candidates] == ["cpu"]


@needs_pt2
def test_the_reference_is_the_requested_one_or_pytorch_or_the_first(shared_bundle: Bundle) -> None:
    every = build(shared_bundle, backends=["onnxruntime", "torch", "openvino"]).candidates
    assert choose_reference(every).backend == "torch"
    assert choose_reference(every, "openvino").backend == "openvino"
    assert choose_reference(every, str(shared_bundle.path)).backend == "onnxruntime"
    assert choose_reference(every[:1]).backend == "onnxruntime"
    with pytest.raises(UsageError, match="is not part of this benchmark, which has onnxruntime, torch, openvino"):
        choose_reference(every, "torchscript")


def test_no_number_of_threads_is_every_core(shared_bundle: Bundle) -> None:
    found = build(shared_bundle, backends=["onnxruntime"], providers=["cpu"], threads=[0, count_cores()])
    assert [candidate.threads for candidate in found.candidates] == [count_cores()]
