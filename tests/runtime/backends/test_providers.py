from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from onward.backends import open_artifact
from onward.backends.placement import MIN_PLACEMENT
from onward.backends.providers import CPU, CUDA, TENSORRT, Provider, ProviderRequest, available_providers
from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.classifier import load
from onward.errors import BackendError, ProviderError, UsageError
from onward.parity import MAX_NOISE_RATIO
from onward.tasks.classification import OUTPUTS
from tests.needs import FORMATS, TORCH_IS_INSTALLED, needs_placement, needs_torch

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
    assert "package onnxruntime-gpu has it: install it instead of onnxruntime" in message


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
@needs_placement
def test_a_provider_that_takes_no_node_is_refused_with_what_was_left_to_others(shared_bundle: Bundle) -> None:
    with pytest.raises(
        ProviderError, match=f"{AZURE} was asked for and took no node .* the rest runs elsewhere: .*Conv"
    ) as no:
        open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider=AZURE)
    assert " ×" in str(no.value)


@pytest.mark.parametrize("text", ["cuda", "cuda,cpu", "tensorrt,CUDAExecutionProvider,cpu", "openvino"])
def test_a_request_is_written_as_it_is_read(text: str) -> None:
    request = ProviderRequest.parse(text)
    assert ProviderRequest.parse(str(request)) == request == ProviderRequest.of(text) == ProviderRequest.of(request)


def test_a_request_holds_the_providers_in_order() -> None:
    assert ProviderRequest.parse("tensorrt,cuda,cpu").names == (TENSORRT, CUDA, CPU)
    assert ProviderRequest.parse("cpu") == ProviderRequest((Provider(CPU),))


@pytest.mark.parametrize("text", ["cpu,cuda", "cuda,cuda,cpu", "cuda,CUDAExecutionProvider", "cpu,cpu"])
def test_a_list_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"several different ones .* the CPU last"):
        ProviderRequest.parse(text)


@pytest.mark.parametrize("text", ["cuda,", ",cpu", "cuda, cpu", "cuda,gpu", "cuda;cpu"])
def test_a_list_with_an_unknown_name_is_refused(text: str) -> None:
    with pytest.raises(ProviderError, match="is unknown; expected one of cpu, cuda"):
        ProviderRequest.parse(text)


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: "=" not in key), st.text()))
def test_options_are_the_same_as_a_mapping_and_as_texts(options: dict[str, str]) -> None:
    request = ProviderRequest.parse("cuda", options=options)
    assert request == ProviderRequest.parse("cuda", options=[f"{key}={value}" for key, value in options.items()])
    assert request.providers[0].options == {"use_tf32": "0"} | options


@pytest.mark.parametrize("option", ["", "use_tf32", "=1", "="])
def test_a_malformed_option_is_refused(option: str) -> None:
    with pytest.raises(UsageError, match="expected key=value such as use_tf32=1"):
        ProviderRequest.parse("cuda", options=["gpu_mem_limit=1", option])


def test_an_option_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="use_tf32 is given twice: '0' and '1'"):
        ProviderRequest.parse("cuda", options=["use_tf32=0", "use_tf32=1"])


def test_options_of_the_cpu_are_refused_and_not_ignored() -> None:
    with pytest.raises(UsageError, match=f"use_tf32: {CPU} has no options"):
        ProviderRequest.parse("cpu", options=["use_tf32=1"])


def test_tf32_and_half_precision_are_off_until_they_are_asked_for() -> None:
    first, second, third = ProviderRequest.parse("tensorrt,cuda,cpu").providers
    assert first.options == {"trt_fp16_enable": "False", "trt_int8_enable": "False"}
    assert second.options == {"use_tf32": "0"}
    assert third.options == {}
    assert ProviderRequest.parse("cuda", options=["use_tf32=1"]).providers[0].options == {"use_tf32": "1"}
    assert ProviderRequest.parse("cuda").providers[0].options == {"use_tf32": "0"}


def test_options_go_to_the_first_provider_and_the_device_to_all_that_have_one() -> None:
    request = ProviderRequest.parse("tensorrt,cuda,cpu", options=["trt_fp16_enable=True"], device_id=1)
    assert [provider.options.get("device_id") for provider in request.providers] == ["1", "1", None]
    assert [provider.options.get("trt_fp16_enable") for provider in request.providers] == ["True", None, None]
    assert request.providers[0].device_id == 1
    assert ProviderRequest.parse("cuda").providers[0].device_id == 0


@pytest.mark.parametrize("text", ["cpu", "openvino,cpu", "coreml"])
def test_a_device_of_a_provider_without_numbered_ones_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"does not number its devices, only .*device_type=GPU\.1"):
        ProviderRequest.parse(text, device_id=0)


def test_a_device_that_is_no_device_is_refused() -> None:
    with pytest.raises(UsageError, match="--device-id is -1, expected 0 or more"):
        ProviderRequest.parse("cuda", device_id=-1)
    with pytest.raises(UsageError, match="--device-id is 1, but --provider-option says device_id=0"):
        ProviderRequest.parse("cuda", options=["device_id=0"], device_id=1)
    with pytest.raises(UsageError, match=r"device_id of .* is 'one', expected a number"):
        _ = ProviderRequest.parse("cuda", options=["device_id=one"]).providers[0].device_id


@pytest.mark.parametrize("share", [-0.1, 1.1, 97, float("nan")])
def test_a_placement_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="expected a share of the nodes from 0 to 1"):
        ProviderRequest.parse("cuda", min_placement=share)


@needs_placement
def test_the_cpu_takes_every_node(shared_bundle: Bundle) -> None:
    placement = open_artifact(shared_bundle, shared_bundle.artifact("onnx")).placement
    assert placement is not None
    assert list(placement.nodes) == [CPU]
    assert placement.nodes[CPU]["Conv"] == 2
    assert placement.share(CPU) == 1


@needs_azure
@needs_placement
def test_what_a_provider_leaves_runs_on_the_cpu_where_the_list_says_so(
    shared_bundle: Bundle, pixels: NDArray[np.uint8]
) -> None:
    artifact = shared_bundle.artifact("onnx")
    backend = open_artifact(shared_bundle, artifact, provider=f"{AZURE},cpu")
    assert backend.placement is not None
    assert (backend.placement.share(CPU), backend.placement.share(AZURE)) == (1, 0)
    assert backend.placement.describe().startswith("CPU 100 % (")
    assert backend.name == "onnx (CPU)"
    plain = open_artifact(shared_bundle, artifact).run(pixels)
    for name, array in backend.run(pixels).items():
        np.testing.assert_array_equal(array, plain[name])


@needs_azure
@needs_placement
def test_a_share_that_was_asked_for_is_asked_for_in_a_list_too(shared_bundle: Bundle) -> None:
    request = ProviderRequest.parse(f"{AZURE},cpu", min_placement=0.1)
    with pytest.raises(ProviderError, match=r"took no node .* lower `--min-placement`, or none"):
        open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider=request)


@without_cuda
def test_a_list_goes_on_past_a_provider_that_is_not_here_and_says_so(shared_bundle: Bundle) -> None:
    backend = open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider="cuda,cpu")
    assert backend.placement is not None
    assert backend.placement.absent == (CUDA,)
    assert backend.placement.describe().endswith("; CUDA: not available")


@without_cuda
def test_a_list_whose_last_provider_is_not_here_is_refused(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match=f"{CUDA} is not in this onnxruntime"):
        open_artifact(shared_bundle, shared_bundle.artifact("onnx"), provider="tensorrt,cuda")


@needs_torch
@pytest.mark.parametrize("format", FORMATS[1:])
def test_pytorch_runs_on_the_first_provider_that_it_has_here(shared_bundle: Bundle, format: str) -> None:
    import torch

    backend = open_artifact(shared_bundle, shared_bundle.artifact(format), provider="openvino,cpu")
    assert (backend.name, backend.placement) == (f"{format} (CPU)", None)
    backend = open_artifact(shared_bundle, shared_bundle.artifact(format), provider="cuda,cpu")
    assert backend.name == f"{format} ({'CUDA' if torch.cuda.is_available() else 'CPU'})"


@needs_torch
def test_a_device_that_pytorch_does_not_have_is_a_backend_error(shared_bundle: Bundle) -> None:
    request = ProviderRequest.parse("cuda", device_id=99)
    with pytest.raises(BackendError, match="finds no CUDA device 99 here"):
        open_artifact(shared_bundle, shared_bundle.artifact("torchscript"), provider=request)


def test_everything_that_takes_a_provider_takes_a_request(shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    request = ProviderRequest.parse("cpu")
    assert len(load(shared_bundle.path, provider=request)(pixels)) == len(pixels)
    results = verify(shared_bundle, provider=request)
    assert all(result.passed for result in results)
    assert not any(result.skipped for result in results if result.artifact == "onnx" or TORCH_IS_INSTALLED)


@needs_azure
@needs_placement
@needs_torch
def test_pytorchs_artifacts_are_skipped_where_no_provider_is_one_of_its_own(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="took no node"):
        verify(shared_bundle, provider=AZURE)
    with pytest.raises(BackendError, match=f"not on '{AZURE}'"):
        verify(shared_bundle, provider=AZURE, artifacts=["torchscript"])
    assert not any(result.skipped for result in verify(shared_bundle, provider=f"{AZURE},cpu"))


@needs_cuda
def test_a_card_takes_most_of_the_model_and_gives_what_the_cpu_gives(
    shared_bundle: Bundle, pixels: NDArray[np.uint8]
) -> None:
    needs_a_card()
    artifact = shared_bundle.artifact("onnx")
    backend, plain = open_artifact(shared_bundle, artifact, provider="cuda"), open_artifact(shared_bundle, artifact)
    assert backend.placement is not None
    assert backend.placement.share(CUDA) >= MIN_PLACEMENT
    found, expected, noise = backend.run(pixels), plain.run(pixels), shared_bundle.golden().noise
    for name in OUTPUTS:
        # each may be MAX_NOISE_RATIO noise floors from the float64 reference
        tolerance = 2 * MAX_NOISE_RATIO * max(table[name].floor for table in noise.values())
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=tolerance)


@needs_cuda
def test_a_bundle_verifies_on_cuda(shared_bundle: Bundle) -> None:
    needs_a_card()
    (result,) = verify(shared_bundle, artifacts=["onnx"], provider="cuda")
    assert result.backend == "onnx (CUDA)"
    assert result.passed


def needs_a_card() -> None:
    if not Path("/dev/nvidia0").exists():
        pytest.skip("onnxruntime-gpu is installed, and this machine has no NVIDIA device")
