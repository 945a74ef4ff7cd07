"""One model of each odd kind: exported and proven in every format, or refused with a sentence that helps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import onward
from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.errors import BundleError, NotExportable, OnwardError, UsageError
from onward.signature import AnySignature, Input, TensorSignature
from tests.needs import FORMATS

from kinds import (  # isort: skip
    AnySize,
    Bessel,
    Branch,
    CountingAttribute,
    CountingBuffer,
    InDataclass,
    InDictionary,
    InTuple,
    Picking,
    PooledUp,
    Tabular,
    TwoInputs,
    hooked,
    on_meta,
    weight_norm,
)
from networks import RGB, SIGNATURE, Attention, Plain, Residual  # isort: skip

TABULAR = TensorSignature((Input("features", "float32", (13,)),), ("a", "b", "c"))
TWO = TensorSignature((Input("features", "float32", (13,)), Input("ids", "int64", (None,), (0, 99))), ("a", "b", "c"))


EXPORTED: Mapping[str, tuple[nn.Module, AnySignature, dict[str, Any]]] = {
    "a dictionary": (InDictionary(), SIGNATURE, {"output": "scores"}),
    "a tuple": (InTuple(), SIGNATURE, {"output": "1"}),
    "a dataclass": (InDataclass(), SIGNATURE, {}),
    "float planes in": (Residual(), replace(RGB, interface="tensor"), {}),
    "any height and width": (AnySize(), replace(SIGNATURE, dynamic_size=True), {}),
    "any size, float planes": (AnySize(), replace(SIGNATURE, dynamic_size=True, interface="tensor"), {}),
    "a table": (Tabular(), TABULAR, {}),
    "two inputs": (TwoInputs(), TWO, {}),
    "a loop, scripted": (Branch(), SIGNATURE, {"formats": ("torchscript",), "torchscript": "script"}),
    "a weight norm": (weight_norm(), SIGNATURE, {}),
    "a hook that only looks": (hooked(lambda module, inputs, output: None), SIGNATURE, {}),
    "a pooling that is taken apart": (PooledUp(), SIGNATURE, {"formats": ("onnx",)}),
    "arithmetic on positions": (Picking(), SIGNATURE, {"formats": ("onnx",)}),
    "opset 21": (Attention(), SIGNATURE, {"formats": ("onnx",), "opset": 21}),
}

REFUSED: Mapping[str, tuple[nn.Module, AnySignature, dict[str, Any], str]] = {
    "a dictionary without logits": (InDictionary(), SIGNATURE, {}, r"dict with features, scores; none .*--output"),
    "a key that is not there": (InDictionary(), SIGNATURE, {"output": "x"}, r"without a tensor 'x'; it has features"),
    "a tuple whose first is wide": (InTuple(), SIGNATURE, {}, r"gives shape \(2, 64\) .* 4 labels.*--output"),
    "a loop over data": (Branch(), SIGNATURE, {}, r"on its data, at kinds\.py:\d+, in forward: while bool"),
    "an operator without ONNX form": (
        Bessel(), SIGNATURE, {"formats": ("onnx",)},
        r"aten\.special_bessel_j0\.default in .* has no ONNX form, at kinds\.py:\d+, in forward.*--formats",
    ),
    "a buffer that counts": (CountingBuffer(), SIGNATURE, {}, r"model\.calls changes when the model is called"),
    "an attribute that counts": (CountingAttribute(), SIGNATURE, {}, r"first at aten\.mul in model.*counts its calls"),
    "a hook that changes": (hooked(lambda module, inputs, output: output * 2), SIGNATURE, {},
                            r"a forward hook \(<lambda>\) on 1 changes the outputs"),
    "no values yet": (on_meta(), SIGNATURE, {}, r"2 of 2 weights are on the meta device"),
    "a size that is not free": (Plain(), replace(SIGNATURE, dynamic_size=True), {},
                                r"does not run .* resized samples \(10, 12, 1\)"),
    "more labels than outputs": (Plain(), replace(SIGNATURE, labels=("a", "b")), {}, r"gives shape \(2, 4\).*2 labels"),
    "an opset of long ago": (Plain(), SIGNATURE, {"opset": 9}, r"opset is 9 .* 18 to 23"),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """The bundle of a kind, exported once. Read it, do not change it."""

    @functools.cache
    def export(kind: str) -> Bundle:
        network, signature, options = EXPORTED[kind]
        return onward.export(network, tmp_path_factory.mktemp("kind") / "model", signature=signature, **options)

    return export


@pytest.mark.parametrize("kind", EXPORTED)
def test_it_is_exported_and_verified(kind: str, exported: Callable[[str], Bundle]) -> None:
    bundle, signature = exported(kind), EXPORTED[kind][1]
    assert Bundle.open(bundle.path).signature == signature
    assert {item["format"] for item in bundle.parity()["not_published"]} <= {"pt2"} - set(FORMATS)
    for result in verify(bundle):
        assert result.passed
        assert result.same_bits
    assert {path.name for path in bundle.path.glob("model.*")} >= {artifact.file.path for artifact in bundle.artifacts}


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_a_sentence_and_nothing_is_published(kind: str, tmp_path: Path) -> None:
    network, signature, options, match = REFUSED[kind]
    with pytest.raises((NotExportable, UsageError), match=match) as caught:
        onward.export(network, tmp_path / "model", signature=signature, **options)
    assert isinstance(caught.value, OnwardError)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_two_inputs_is_called_by_name(exported: Callable[[str], Bundle]) -> None:
    network = EXPORTED["two inputs"][0]
    features, ids = np.ones((5, 13), np.float32), np.arange(35, dtype=np.int64).reshape(5, 7)
    with onward.load(exported("two inputs").path) as model, torch.no_grad():
        predictions = model({"ids": ids, "features": features})
        expected = network(torch.tensor(features), torch.tensor(ids)).numpy()
    # float32 sums of 21 terms in two orders
    np.testing.assert_allclose(predictions.logits, expected, rtol=1e-5, atol=1e-6)


def test_a_model_of_any_size_takes_another_one(exported: Callable[[str], Bundle]) -> None:
    bundle = exported("any height and width")
    shape = onnx.load(bundle.path / "model.onnx").graph.input[0].type.tensor_type.shape
    assert [side.dim_param or side.dim_value for side in shape.dim] == ["batch", "height", "width", 1]
    with onward.load(bundle.path) as model:
        assert len(model(np.zeros((3, 21, 17, 1), np.uint8))) == 3
        assert len(model(np.zeros((21, 17, 1), np.uint8))) == 1


def test_an_image_is_normalised_on_the_way_into_a_float_model(
    exported: Callable[[str], Bundle], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, *RGB.image_shape), np.uint8)
    of_pixels = onward.export(Residual(), tmp_path / "pixels", signature=RGB, formats=("onnx",))
    logits = []
    for bundle in (of_pixels, exported("float planes in")):
        with onward.load(bundle.path) as model:
            logits.append(model(images).logits)
    # the same float32 operations but for the fold of batch norm
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)


def test_weights_in_a_file_of_their_own_are_vouched_for(tmp_path: Path) -> None:
    bundle = onward.export(
        Plain(), tmp_path / "model", signature=SIGNATURE, formats=("onnx",), external_data_above_bytes=0
    )
    weights = bundle.path / "model.onnx.data"
    assert weights.stat().st_size > (bundle.path / "model.onnx").stat().st_size / 4
    assert "model.onnx.data" in {file.path for file in bundle.files}
    with onward.load(bundle.path) as model:
        assert len(model(np.zeros((2, 8, 8, 1), np.uint8))) == 2
    data = bytearray(weights.read_bytes())
    data[0] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=r"model\.onnx\.data was changed"):
        onward.load(bundle.path)


def test_the_default_file_is_one_that_runtimes_of_two_years_ago_read(tmp_path: Path) -> None:
    bundle = onward.export(Plain(), tmp_path / "model", signature=SIGNATURE, formats=("onnx",))
    model = onnx.load(bundle.path / "model.onnx")
    # onnxruntime 1.20 reads opsets up to 21 and IR versions up to 10
    assert (bundle.artifacts[0].opset, model.ir_version) == (18, 10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_caller_s_module_is_left_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    network = Plain().to(dtype).train()
    handle = network[1].register_forward_hook(lambda module, inputs, output: None)
    network[1].weight.requires_grad_(False)
    bundle = onward.export(network, tmp_path / "model", signature=SIGNATURE, formats=("onnx",))
    assert bundle.artifacts[0].precision == "float32"
    assert network.training
    assert handle.id in network[1]._forward_hooks
    assert not network[1].weight.requires_grad
    assert network[3].weight.requires_grad
    assert network[3].weight.dtype == dtype
