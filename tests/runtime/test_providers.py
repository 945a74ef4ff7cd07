from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from runtime.backends import open_artifact
from runtime.bundle import Bundle
from runtime.errors import ProviderError
from runtime.providers import CPU, Provider, available_providers
from runtime.verify import verify

CUDA = "CUDAExecutionProvider"
AZURE = "AzureExecutionProvider"  # part of plain onnxruntime; it takes only operators that call Azure
HAS_CUDA = CUDA in available_providers()
needs_cuda = pytest.mark.skipif(not HAS_CUDA, reason=f"this onnxruntime has no {CUDA}: install onnxruntime-gpu")
without_cuda = pytest.mark.skipif(HAS_CUDA, reason=f"this onnxruntime has {CUDA}")
needs_azure = pytest.mark.skipif(AZURE not in available_providers(), reason=f"this onnxruntime has no {AZURE}")


@pytest.mark.parametrize("text", ["cpu", "CPU", CPU])
def test_the_processor_is_there_by_its_short_and_its_full_name(text: str) -> None:
    assert Provider.parse(text) == Provider(CPU)


@pytest.mark.parametrize("text", ["", "gpu", "cuda:0", "CpuExecutionProvider", "cpu "])
def test_an_unknown_name_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(ProviderError, match=f"{text!r} is unknown; expected one of cpu, cuda, .*{CPU}"):
        Provider.parse(text)


@without_cuda
def test_a_missing_provider_says_what_is_there_and_which_package_brings_it() -> None:
    with pytest.raises(ProviderError) as caught:
        Provider.parse("cuda")
    message = str(caught.value)
    assert f"{CUDA} is not in this onnxruntime" in message
    assert all(name in message for name in available_providers())
    assert "package onnxruntime-gpu, installed instead of onnxruntime" in message


def test_a_missing_provider_that_no_package_brings_names_none() -> None:
    missing = sorted(set(onnxruntime.get_all_providers()) - set(available_providers()))
    if "CoreMLExecutionProvider" not in missing:
        pytest.skip("CoreML is there, or unknown to this onnxruntime")
    with pytest.raises(ProviderError, match=r"it has .*\.$") as caught:
        Provider.parse("coreml")
    assert "package" not in str(caught.value)


@without_cuda
def test_nothing_runs_on_another_provider_than_the_one_asked_for(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match=CUDA):
        open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider="cuda")


@needs_azure
def test_a_provider_that_takes_no_node_is_refused_with_what_was_left_to_others(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match=f"{AZURE} was asked for and took no node .* left to others: .*Conv") as no:
        open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider=AZURE)
    assert " ×" in str(no.value)


@needs_cuda
def test_tf32_is_off_on_cuda() -> None:
    assert Provider.parse("cuda").options["use_tf32"] == "0"


@needs_cuda
def test_a_bundle_verifies_on_cuda(shared_bundle: Bundle) -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("onnxruntime-gpu is installed, and this machine has no NVIDIA device")
    (result,) = verify(shared_bundle, artifacts=["onnx"], provider="cuda")
    assert result.backend == "onnx (CUDA)"
    assert result.passed
