from __future__ import annotations

import importlib.util

import pytest

from onward.benchmarking.matrix import Lineup, Wish
from onward.benchmarking.model import Subject
from onward.benchmarking.spec import BACKENDS, Options
from onward.benchmarking.summary import choose_reference
from onward.bundle import Bundle
from onward.errors import ProviderError, UsageError
from onward.host.cpu import count_cores


def line_up(bundle: Bundle, **wish: object) -> Lineup:
    return Lineup.draw_up({str(bundle.path): Subject(bundle.path)}, Wish(**wish))  # type: ignore[arg-type]


def test_all_that_can_run_here_is_timed(shared_bundle: Bundle) -> None:
    found = line_up(shared_bundle)
    assert {item.backend for item in found.competitors} | set(found.missing) == set(BACKENDS)
    assert {item.threads for item in found.competitors} == {count_cores()}


def test_what_is_not_installed_is_named_with_its_remedy(shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "openvino") else find(name))
    found = line_up(shared_bundle)
    assert [item.backend for item in found.competitors] == ["onnxruntime"]
    assert found.missing["openvino"] == "pip install 'onward[openvino]'"
    assert "onward[training]" in found.missing["torch"]
    asked = line_up(shared_bundle, backends=["openvino"])
    assert [item.backend for item in asked.competitors] == ["openvino"]  # its row will say why not


def test_backends_times_providers_times_threads(shared_bundle: Bundle) -> None:
    found = line_up(shared_bundle, backends=["onnxruntime", "torch"], providers=["cpu", "cuda"], threads=(1, 2))
    assert [(item.backend, item.provider, item.threads) for item in found.competitors] == [
        (backend, provider, threads)
        for backend in ("onnxruntime", "torch")
        for provider in ("cpu", "cuda")
        for threads in (1, 2)
    ]


def test_openvino_stays_on_the_processor(shared_bundle: Bundle) -> None:
    found = line_up(shared_bundle, backends=["openvino"], providers=["cuda"])
    assert [item.provider for item in found.competitors] == ["cpu"]


@pytest.mark.parametrize(
    ("wish", "what"),
    [
        ({"backends": ["tflite"]}, "'tflite' is unknown; expected torch, "),
        ({"backends": []}, "no backend"),
        ({"threads": (0,)}, "at least 1"),
    ],
)
def test_a_wish_that_cannot_be_meant(wish: dict[str, object], what: str, shared_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match=what):
        line_up(shared_bundle, **wish)


def test_an_unknown_provider_is_an_error_before_anything_is_timed(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="'gpu' is unknown"):
        line_up(shared_bundle, providers=["gpu"])


def test_the_reference_is_pytorch_or_the_first_or_what_was_asked_for(shared_bundle: Bundle) -> None:
    every = line_up(shared_bundle, backends=["onnxruntime", "torch", "openvino"]).competitors
    assert choose_reference(every).backend == "torch"
    assert choose_reference(every, "openvino").backend == "openvino"
    assert choose_reference(every, str(shared_bundle.path)).backend == "onnxruntime"
    assert choose_reference(every[:1]).backend == "onnxruntime"
    with pytest.raises(UsageError, match="not timed; there are onnxruntime, torch, openvino"):
        choose_reference(every, "torchscript")


@pytest.mark.parametrize("change", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"num_rounds": 0}, {"num_launches": 0}])
def test_options_that_time_nothing(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Options(**change)  # type: ignore[arg-type]


def test_batch_sizes_are_sorted() -> None:
    assert Options(batch_sizes=(32, 1, 8, 1)).batch_sizes == (1, 8, 32)
