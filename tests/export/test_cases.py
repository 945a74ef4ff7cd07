"""Modules of kinds that were refused, or ended with a traceback: exported, or refused with advice that works.

Few samples and one or two formats each: what a case is about is decided by the formats that it names.
"""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from onward.bundle import Bundle
from onward.bundle.pt2_content import check_pt2
from onward.errors import NotExportable
from onward.signature import Signature
from onward_export.deployable import make_deployable
from onward_export.formats.program import export_program, write_pt2
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.weights.constant_folding import constant_values
from tests.needs import FORMATS, needs_pt2

from more_cases import (  # isort: skip
    Attending,
    Between,
    Branching,
    Constants,
    FixesTheBatch,
    Holding,
    Interpolated,
    Logging,
    Overwritten,
    Pooled,
    Prepared,
    Renormalised,
    Sparse,
    Unregistered,
    scripted,
    wrapped,
)

ONNX, PT2, TORCHSCRIPT = "onnx", "pt2", "torchscript"
NUM_SAMPLES = 8

#: Case -> the formats that pass.
EXPORTED: Mapping[str, tuple[str, ...]] = {
    "arange_float32": (ONNX,),
    "attention_3d_mask": (ONNX,),
    "autocast_cuda": (ONNX,),
    "autograd_function": (ONNX, TORCHSCRIPT),
    "avg_pool_ceil": (ONNX,),
    "bilinear": (ONNX,),
    "buffer_item": (PT2,),
    "cdist": (ONNX,),
    "complex_parameter": (ONNX,),
    "deform_conv_torchscript": (TORCHSCRIPT,),
    "float_first": (TORCHSCRIPT,),
    "grid_sample": (ONNX,),
    "group_norm": (ONNX,),
    "holds_a_lock": (TORCHSCRIPT,),
    "jit_function": (TORCHSCRIPT,),
    "lstm": (ONNX,),
    "non_persistent_buffer": (TORCHSCRIPT,),
    "pad_first": (ONNX,),
    "softmax_float32": (TORCHSCRIPT,),
    "upsample_nearest": (ONNX,),
    "view_after_conv": (TORCHSCRIPT,),
    "weight_standardisation": (ONNX,),
}
#: Case -> options, and the sentence of the refusal.
REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "deform_conv": (
        {"formats": (ONNX,)},
        r"torchvision\.deform_conv2d\.default in model\.d, at deform_conv\.py:\d+, in forward: .* needs ONNX's "
        r"DeformConv, which begins with opset 19: export with `--opset 19`",
    ),
    "quantised_module": (
        {"formats": (ONNX,)},
        r"h\.0\._packed_params is quantised .* Export the network as it was before `quantize_dynamic`",
    ),
}
MORE_EXPORTED: Mapping[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "pooling with ceiled sizes": (Pooled, (ONNX,)),
    "interpolation by a factor": (Interpolated, (ONNX,)),
    "attention of ranks 3 and 5": (Attending, (ONNX,)),
    "constants of weights": (Constants, (PT2,)),
    "what can be neither copied nor pickled": (Holding, (TORCHSCRIPT, PT2)),
    "a module of TorchScript": (scripted, (TORCHSCRIPT,)),
    "torch.cond": (Branching, (ONNX,)),
    "constants that the exporter computes": (Prepared, (ONNX,)),
}
MORE_REFUSED: Mapping[str, tuple[Callable[[], nn.Module], dict[str, Any], str]] = {
    "a module of TorchScript": (
        scripted, {"formats": (PT2,)},
        r"model is a module of TorchScript.*Export the module from which it was made, or .*`--formats torchscript`",
    ),
    "a size that is fixed": (
        FixesTheBatch, {"formats": (PT2,)},
        r"fixes a size that must be free, at more_cases\.py:\d+, in between: return torch\.stack.*\(torch.* in model\)",
    ),
    "an operator of no opset": (
        lambda: Between(lambda features: features.flatten(2).cummax(2)[0]), {"formats": (ONNX,)},
        r"aten\.cummax\.default in model has no ONNX form, at more_cases\.py:\d+, .*`--formats torchscript,pt2`",
    ),
    "a sparse buffer": (
        Sparse, {"formats": (TORCHSCRIPT,)},
        r"table is a sparse tensor, which none of the formats holds. Store it as `table\.to_dense\(\)`",
    ),
    "a log that forward writes": (
        Logging, {"formats": (TORCHSCRIPT,)},
        r"at more_cases\.py:\d+, in between: self\.log\.write\(.*TextIOWrapper.*`--formats onnx,pt2`",
    ),
}  # fmt: skip


def made(name: str) -> tuple[nn.Module, Signature]:
    """A case, with random weights, and its signature."""
    case = importlib.import_module(f"cases.{name}")
    torch.manual_seed(0)
    return case.Net().eval(), signature(*case.IMAGE)


def signature(height: int, width: int, channels: int) -> Signature:
    return Signature(height, width, channels, (0.45,) * channels, (0.25,) * channels, tuple("abcde"))


def export(network: nn.Module, signature: Signature, folder: Path, **options: Any) -> Bundle:
    """Skips the test where this PyTorch writes no .pt2 without pickles."""
    if not set(options["formats"]) <= set(FORMATS):
        pytest.skip("PyTorch before 2.9 writes no .pt2 without pickles")
    source = ModelToExport(network, signature)
    return publish(source, folder / "model", options=ExportOptions(**options), num_samples=NUM_SAMPLES)


def as_advised(sentence: str) -> dict[str, Any]:
    """The options that a refusal advises, the first of them."""
    option, value = re.search(r"`--(opset|formats) ([\w,]+)", sentence).groups()  # type: ignore[union-attr]
    return {"opset": int(value)} if option == "opset" else {"formats": tuple(value.split(","))}


# PyTorch's own warning where there is no CUDA, once in a process
@pytest.mark.filterwarnings("ignore:.*CUDA is not available:UserWarning")
@pytest.mark.parametrize("name", list(EXPORTED))
def test_a_case_is_exported(name: str, tmp_path: Path) -> None:
    network, its_signature = made(name)
    bundle = export(network, its_signature, tmp_path, formats=EXPORTED[name])
    assert {artifact.name for artifact in bundle.artifacts} == set(EXPORTED[name])
    assert all(artifact.noise_ratio <= 3 for artifact in bundle.artifacts)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated", "ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize("name", REFUSED)
def test_a_case_is_refused_with_a_sentence(name: str, tmp_path: Path) -> None:
    options, sentence = REFUSED[name]
    with pytest.raises(NotExportable, match=sentence) as refused:
        export(*made(name), tmp_path, **options)
    assert list(tmp_path.iterdir()) == []
    if "`--" in str(refused.value):
        assert export(*made(name), tmp_path, **options | as_advised(str(refused.value))).artifacts


@pytest.mark.parametrize("kind", list(MORE_EXPORTED))
def test_others_of_its_kind_are_exported(kind: str, tmp_path: Path) -> None:
    make, formats = MORE_EXPORTED[kind]
    bundle = export(make().eval(), signature(20, 20, 3), tmp_path, formats=formats)
    assert {artifact.name for artifact in bundle.artifacts} == set(formats)


@pytest.mark.parametrize("kind", MORE_REFUSED)
def test_others_are_refused_with_a_place_and_advice_that_works(kind: str, tmp_path: Path) -> None:
    make, options, sentence = MORE_REFUSED[kind]
    with pytest.raises(NotExportable, match=sentence) as refused:
        export(make().eval(), signature(20, 20, 3), tmp_path, **options)
    if "`--" in str(refused.value):
        assert export(
            make().eval(), signature(20, 20, 3), tmp_path, **options | as_advised(str(refused.value))
        ).artifacts


@pytest.mark.parametrize("make", [Unregistered, Renormalised, wrapped])
# torch.jit's own warnings
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")  # torch.compile's
def test_what_tracing_would_refuse_or_change_is_taken_out(make: Callable[[], nn.Module]) -> None:
    module = make_deployable(make(), signature(20, 20, 3))
    images = torch.randint(256, (2, 20, 20, 3), dtype=torch.uint8)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    traced = torch.jit.trace(module, images)
    expected = make().eval()(module.normalize(images))
    torch.testing.assert_close(traced(images)[0], expected)
    assert not any("_orig_mod" in name or name.startswith("model.h.module") for name in before)
    for name, value in traced.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_constant_that_is_overwritten_is_computed() -> None:
    module = make_deployable(Overwritten(), signature(20, 20, 3))
    program = export_program(module, module.task.signature).module()
    for pixel in (0, 255):
        image = torch.full((1, 20, 20, 3), pixel, dtype=torch.uint8)
        torch.testing.assert_close(program(image), module(image))


def test_a_copy_of_a_feature_extractor_is_in_eval_mode_though_torch_fx_forgets_it() -> None:
    network = create_feature_extractor(nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(1200, 5)), {"2": "logits"})
    module = copy.deepcopy(make_deployable(network, signature(20, 20, 3)))
    assert not any(item.training for item in module.modules())


@needs_pt2
def test_values_inside_a_vmap_are_no_constants_and_its_pt2_file_may_be_opened(tmp_path: Path) -> None:
    scale = torch.arange(8.0)
    network = Between(lambda features: torch.vmap(lambda x, y: x * y)(features.transpose(0, 1), scale).transpose(0, 1))
    module = make_deployable(network, signature(20, 20, 3))
    program = export_program(module, module.task.signature)
    assert all(value.numpy().size for value in constant_values(program, {}).values())
    write_pt2(program, tmp_path / "model.pt2")
    assert check_pt2((tmp_path / "model.pt2").read_bytes())


def test_every_module_has_its_expected_outcome() -> None:
    there = {path.stem for path in (Path(__file__).parent / "cases").glob("*.py")}
    assert there == {*EXPORTED, *REFUSED}
