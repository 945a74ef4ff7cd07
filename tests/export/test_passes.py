"""Each pass over the graph: what it folds, exactly; what it leaves alone; what becomes of one that costs precision."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import RGB, SIGNATURE, Residual
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from onward.errors import NotExportable
from onward.signature import Signature
from onward_export.deployable import Deployable
from onward_export.formats.onnx_file import _translate
from onward_export.formats.program import export_program
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.passes import PASSES, noise_ratio_of, run_passes
from onward_export.passes.batch_norm import FoldBatchNorm
from onward_export.passes.dead_code import RemoveDeadCode
from onward_export.passes.normalization import FoldNormalization
from onward_export.passes.pixel_layout import FoldPixelLayout
from onward_export.passes.simplification import RULE_NAMES, RULES
from onward_export.publish import publish

Array = NDArray[Any]
#: Of two ways to add up some hundred float32 terms, as a share of the largest output.
SUM_ERROR = 1e-5
GREY_AS_RGB = Signature(12, 10, 1, (0.48, 0.45, 0.4), (0.23, 0.22, 0.22), ("a", "b", "c", "d"), repeat=3)
RANDOM = np.random.default_rng(0)


def draw(*shape: int, low: float = -1, high: float = 1) -> Array:
    return RANDOM.uniform(low, high, shape).astype(np.float32)


def model_of(
    nodes: Sequence[NodeProto], shape: Sequence[int | str], *, pixels: bool = False, **arrays: Array
) -> ir.Model:
    """A graph from `x` to `y`, its shapes inferred."""
    dtype = TensorProto.UINT8 if pixels else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True))


def run(model: ir.Model, x: Array) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # it folds batch norm itself
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return np.asarray(session.run(None, {"x": x})[0])


def assert_same_outputs(one: ir.Model, other: ir.Model, x: Array) -> None:
    expected = run(one, x)
    np.testing.assert_allclose(run(other, x), expected, rtol=0, atol=SUM_ERROR * max(1.0, np.abs(expected).max()))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def stored(model: ir.Model, name: str) -> Array:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def batch_norm(width: int) -> dict[str, Array]:
    return {"gamma": draw(width), "beta": draw(width), "mean": draw(width), "var": draw(width, low=0.01, high=3)}


def norm(source: str, target: str = "y", *more: str, **attributes: Any) -> NodeProto:
    inputs = [source, "gamma", "beta", "mean", "var"]
    return helper.make_node("BatchNormalization", inputs, [target, *more], name=f"norm of {source}", **attributes)


def factor_of(arrays: dict[str, Array], epsilon: float = 1e-5) -> NDArray[np.float64]:
    factor: NDArray[np.float64] = arrays["gamma"].astype(np.float64) / np.sqrt(
        arrays["var"].astype(np.float64) + epsilon
    )
    return factor


# Batch norm


CONVOLUTIONS = {
    "plain": ("Conv", (6, 4, 3, 3), {}),
    "strided": ("Conv", (6, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "grouped": ("Conv", (6, 2, 3, 3), {"group": 2}),
    "depthwise": ("Conv", (4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "transposed": ("ConvTranspose", (4, 6, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "transposed in groups": ("ConvTranspose", (4, 3, 3, 3), {"group": 2}),
}


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", list(CONVOLUTIONS))
def test_batch_norm_after_any_convolution_is_folded(kind: str, has_bias: bool) -> None:
    op_type, shape, attributes = CONVOLUTIONS[kind]
    width = shape[1] * int(attributes.get("group", 1)) if op_type == "ConvTranspose" else shape[0]
    arrays = {"w": draw(*shape), **batch_norm(width)} | ({"b": draw(width)} if has_bias else {})
    nodes = [helper.make_node(op_type, ["x", "w", "b"][: 2 + has_bias], ["h"], **attributes), norm("h")]
    model = model_of(nodes, ("n", 4, 7, 9), **arrays)
    folded, (result,) = run_passes(model, passes=[FoldBatchNorm()])
    assert operators(folded) == [op_type]
    assert result.num_applied == 1
    assert_same_outputs(model, folded, draw(3, 4, 7, 9))


def test_a_folded_weight_is_the_float64_one_rounded_once() -> None:
    arrays = {"w": draw(6, 4, 3, 3), "b": draw(6), **batch_norm(6)}
    model = model_of([helper.make_node("Conv", ["x", "w", "b"], ["h"]), norm("h")], ("n", 4, 7, 9), **arrays)
    folded, _ = run_passes(model, passes=[FoldBatchNorm()])
    factor = arrays["gamma"].astype(np.float64) / np.sqrt(arrays["var"].astype(np.float64) + np.float32(1e-5))
    exact = arrays["w"].astype(np.float64) * factor[:, None, None, None]
    assert np.array_equal(stored(folded, "w"), exact.astype(np.float32))


def test_two_folds_into_one_weight_round_once() -> None:
    arrays = {"w": draw(6, 9), "b": draw(6), "s": draw(low=0.1), "t": draw(), **batch_norm(6)}
    nodes = [*pixels_to("f"), gemm("f", "h", transB=1), norm("h")]
    model = model_of(nodes, ("n", 3, 3, 1), pixels=True, **arrays, k=np.array([-1, 9]))
    folded, results = run_passes(model, passes=[FoldBatchNorm(), FoldNormalization()])
    assert [result.num_applied for result in results] == [1, 1]
    factor = factor_of(arrays, float(np.float32(1e-5)))
    exact = arrays["w"].astype(np.float64) * factor[:, None] * arrays["s"].astype(np.float64)
    # the order of two float64 products may still turn a tie
    assert np.abs(stored(folded, "w") - exact).max() <= 0.501 * np.spacing(np.abs(exact).max().astype(np.float32))
    assert_same_outputs(model, folded, RANDOM.integers(0, 256, (4, 3, 3, 1), np.uint8))


def gemm(source: str, target: str = "y", **attributes: Any) -> NodeProto:
    return helper.make_node("Gemm", [source, "w", "b"], [target], **attributes)


@pytest.mark.parametrize("is_transposed", [0, 1])
def test_batch_norm_after_a_gemm_is_folded(is_transposed: int) -> None:
    shape = (6, 5) if is_transposed else (5, 6)
    arrays = {"w": draw(*shape), "b": draw(6), **batch_norm(6)}
    model = model_of([gemm("x", "h", transB=is_transposed), norm("h")], ("n", 5), **arrays)
    folded, _ = run_passes(model, passes=[FoldBatchNorm()])
    assert operators(folded) == ["Gemm"]
    assert_same_outputs(model, folded, draw(3, 5))


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
def test_a_matmul_with_its_add_and_batch_norm_becomes_one_gemm(has_bias: bool) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m" if has_bias else "h"])]
    nodes += [helper.make_node("Add", ["b", "m"], ["h"])] if has_bias else []
    arrays = {"w": draw(5, 6), **batch_norm(6)} | ({"b": draw(6)} if has_bias else {})
    model = model_of([*nodes, norm("h")], ("n", 5), **arrays)
    folded, _ = run_passes(model, passes=[FoldBatchNorm()])
    assert operators(folded) == ["Gemm"]
    assert_same_outputs(model, folded, draw(3, 5))


def test_a_batch_norm_after_another_is_folded_too() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["h"]), norm("h", "g"), norm("g")]
    model = model_of(nodes, ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    folded, (result,) = run_passes(model, passes=[FoldBatchNorm()])
    assert (operators(folded), result.num_applied) == (["Conv"], 2)
    assert_same_outputs(model, folded, draw(3, 4, 7, 9))


def test_a_weight_that_two_convolutions_share_is_folded_for_each_alone() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        norm("h", "g"),
        helper.make_node("Conv", ["x", "w"], ["i"]),
        helper.make_node("Add", ["g", "i"], ["y"]),
    ]
    model = model_of(nodes, ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    folded, _ = run_passes(model, passes=[FoldBatchNorm()])
    assert operators(folded) == ["Conv", "Conv", "Add"]
    assert_same_outputs(model, folded, draw(3, 4, 7, 9))


def conv(source: str = "x", target: str = "h") -> NodeProto:
    return helper.make_node("Conv", [source, "w"], [target])


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([conv(), helper.make_node("Relu", ["h"], ["g"]), norm("g")], (6, 4, 3, 3)),
        ([conv(), norm("h", "g"), helper.make_node("Add", ["g", "h"], ["y"])], (6, 4, 3, 3)),
        ([conv(), norm("h", "y", "running_mean", "running_var", training_mode=1)], (6, 4, 3, 3)),
        ([helper.make_node("Gemm", ["x", "w"], ["h"], alpha=2.0), norm("h")], (4, 6)),
        (
            [helper.make_node("Mul", ["w", "w"], ["v"]), helper.make_node("Conv", ["x", "v"], ["h"]), norm("h")],
            (6, 4, 3, 3),
        ),
    ],
    ids=["after a ReLU", "output used twice", "in training mode", "a Gemm with alpha", "a weight that is computed"],
)
def test_batch_norm_without_its_precondition_is_left_alone(nodes: list[NodeProto], shape: tuple[int, ...]) -> None:
    model = model_of(nodes, ("n", 4) if len(shape) == 2 else ("n", 4, 7, 9), w=draw(*shape), **batch_norm(6))
    folded, (result,) = run_passes(model, passes=[FoldBatchNorm()])
    assert result.num_applied == 0
    assert operators(folded) == operators(model)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 2**32 - 1))
def test_folding_batch_norm_never_changes_what_is_computed(
    groups: int, inputs: int, outputs: int, is_transposed: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = (groups * inputs, outputs, 2, 3) if is_transposed else (groups * outputs, inputs, 2, 3)
    width = groups * outputs
    arrays = {"w": random.normal(size=shape), "b": random.normal(size=width)}
    arrays |= {name: random.normal(size=width) for name in ("gamma", "beta", "mean")}
    arrays["var"] = random.uniform(0.01, 3, width)
    node = helper.make_node("ConvTranspose" if is_transposed else "Conv", ["x", "w", "b"], ["h"], group=groups)
    model = model_of(
        [node, norm("h")],
        ("n", groups * inputs, 5, 4),
        **{name: array.astype(np.float32) for name, array in arrays.items()},
    )
    folded, _ = run_passes(model, passes=[FoldBatchNorm()])
    assert operators(folded) == [node.op_type]
    assert_same_outputs(model, folded, random.normal(size=(2, groups * inputs, 5, 4)).astype(np.float32))


# Normalisation


def pixels_to(target: str = "f", repeat: bool = False, flat: bool = True) -> list[NodeProto]:
    """uint8 NHWC -> normalised, and flattened with `k`."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["p"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["p"], ["c"], to=TensorProto.FLOAT),
    ]
    nodes += [helper.make_node("Tile", ["c", "times"], ["r"])] if repeat else []
    nodes += [
        helper.make_node("Mul", ["r" if repeat else "c", "s"], ["m"]),
        helper.make_node("Add", ["m", "t"], ["a" if flat else target]),
    ]
    return nodes + ([helper.make_node("Reshape", ["a", "k"], [target])] if flat else [])


@dataclass(frozen=True)
class Pixels:
    """Pixels of some size, normalised."""

    channels: int
    repeat: int = 1

    @property
    def arrays(self) -> dict[str, Array]:
        width = self.channels * self.repeat
        shape = (width, 1, 1) if width > 1 else ()
        constants = {"s": draw(*shape, low=0.01, high=0.02), "t": draw(*shape, low=-2, high=-1)}
        return constants | ({"times": np.array([1, self.repeat, 1, 1])} if self.repeat > 1 else {})

    @property
    def shape(self) -> tuple[int | str, ...]:
        return ("n", 5, 4, self.channels)

    def images(self) -> Array:
        return RANDOM.integers(0, 256, (3, 5, 4, self.channels), np.uint8)


@pytest.mark.parametrize("is_transposed", [0, 1])
@pytest.mark.parametrize("pixels", [Pixels(1), Pixels(3), Pixels(1, 3)], ids=["grey", "RGB", "grey as RGB"])
def test_normalisation_goes_into_a_gemm_whole(pixels: Pixels, is_transposed: int) -> None:
    num_inputs = 20 * pixels.channels * pixels.repeat
    weight = draw(*((6, num_inputs) if is_transposed else (num_inputs, 6)))
    nodes = [*pixels_to("f", pixels.repeat > 1), gemm("f", transB=is_transposed)]
    arrays = pixels.arrays | {"w": weight, "b": draw(6), "k": np.array([-1, num_inputs])}
    model = model_of(nodes, pixels.shape, pixels=True, **arrays)
    folded, _ = run_passes(model, passes=[FoldNormalization()])
    assert operators(folded) == ["Transpose", "Cast", "Reshape", "Gemm"]
    assert_same_outputs(model, folded, pixels.images())


def test_normalisation_goes_into_a_matmul_with_its_add() -> None:
    nodes = [*pixels_to(), helper.make_node("MatMul", ["f", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    arrays = Pixels(3).arrays | {"w": draw(60, 6), "b": draw(6), "k": np.array([-1, 60])}
    model = model_of(nodes, Pixels(3).shape, pixels=True, **arrays)
    folded, _ = run_passes(model, passes=[FoldNormalization()])
    assert operators(folded) == ["Transpose", "Cast", "Reshape", "Gemm"]
    assert_same_outputs(model, folded, Pixels(3).images())


def first_conv(**attributes: Any) -> NodeProto:
    return helper.make_node("Conv", ["i", "w"], ["y"], **attributes)


@pytest.mark.parametrize(
    ("pixels", "attributes", "shape", "left"),
    [
        (Pixels(1), {}, (6, 1, 3, 3), []),
        (Pixels(3), {}, (6, 3, 3, 3), []),
        (Pixels(3), {"auto_pad": "VALID"}, (6, 3, 3, 3), []),
        (Pixels(3), {"group": 3}, (6, 1, 3, 3), []),
        (Pixels(1, 3), {}, (6, 3, 3, 3), []),
        (Pixels(1, 3), {"group": 3}, (6, 1, 3, 3), ["Tile"]),
        (Pixels(1), {"pads": [1, 1, 1, 1]}, (6, 1, 3, 3), ["Add"]),
        (Pixels(3), {"pads": [1, 0, 0, 0]}, (6, 3, 3, 3), ["Add"]),
        (Pixels(3), {"auto_pad": "SAME_UPPER"}, (6, 3, 3, 3), ["Add"]),
        (Pixels(1, 3), {"pads": [1, 1, 1, 1]}, (6, 3, 3, 3), ["Tile", "Add"]),
    ],
)
def test_normalisation_goes_into_a_convolution_but_for_the_shift_where_it_is_padded(
    pixels: Pixels, attributes: dict[str, Any], shape: tuple[int, ...], left: list[str]
) -> None:
    nodes = [*pixels_to("i", pixels.repeat > 1, flat=False), first_conv(**attributes)]
    model = model_of(nodes, pixels.shape, pixels=True, w=draw(*shape), **pixels.arrays)
    folded, _ = run_passes(model, passes=[FoldNormalization()])
    assert operators(folded) == ["Transpose", "Cast", *left, "Conv"]
    assert_same_outputs(model, folded, pixels.images())


def test_without_a_shift_the_scale_goes_into_a_padded_convolution_and_nothing_is_left() -> None:
    arrays = Pixels(3).arrays | {"t": np.zeros((3, 1, 1), np.float32), "w": draw(6, 3, 3, 3)}
    nodes = [*pixels_to("i", flat=False), first_conv(pads=[1, 1, 1, 1])]
    model = model_of(nodes, Pixels(3).shape, pixels=True, **arrays)
    folded, _ = run_passes(model, passes=[FoldNormalization()])
    assert operators(folded) == ["Transpose", "Cast", "Conv"]
    assert_same_outputs(model, folded, Pixels(3).images())


@pytest.mark.parametrize(
    "tail",
    [
        [helper.make_node("Relu", ["i"], ["z"]), helper.make_node("Conv", ["z", "w"], ["y"])],
        [
            helper.make_node("Conv", ["i", "w"], ["z"]),
            helper.make_node("ReduceMean", ["i"], ["q"]),
            helper.make_node("Add", ["z", "q"], ["y"]),
        ],
        [helper.make_node("ConvTranspose", ["i", "w"], ["y"])],
    ],
    ids=["a ReLU between", "image used twice", "a transposed convolution"],
)
def test_normalisation_without_its_precondition_is_left_alone(tail: list[NodeProto]) -> None:
    model = model_of(
        [*pixels_to("i", flat=False), *tail], Pixels(3).shape, pixels=True, w=draw(3, 3, 3, 3), **Pixels(3).arrays
    )
    folded, (result,) = run_passes(model, passes=[FoldNormalization()])
    assert result.num_applied == 0
    assert operators(folded) == operators(model)


def test_an_affine_step_that_is_not_of_the_pixels_is_left_alone() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["c"]),
        helper.make_node("Mul", ["c", "s"], ["m"]),
        helper.make_node("Add", ["m", "t"], ["i"]),
        first_conv(),
    ]
    model = model_of(nodes, ("n", 3, 5, 4), w=draw(6, 3, 3, 3), **Pixels(3).arrays)
    _, (result,) = run_passes(model, passes=[FoldNormalization()])
    assert result.num_applied == 0


# Pixel layout


@pytest.mark.parametrize(
    ("channels", "attributes", "shape"),
    [
        (1, {}, (6, 1, 3, 3)),
        (3, {}, (6, 3, 3, 2)),
        (3, {"strides": [2, 3], "pads": [1, 2, 0, 1]}, (6, 3, 3, 2)),
        (3, {"dilations": [2, 1]}, (6, 3, 2, 2)),
        (3, {"auto_pad": "VALID"}, (6, 3, 3, 3)),
        (4, {"kernel_shape": [1, 1]}, (6, 4, 1, 1)),
    ],
    ids=["grey", "RGB", "strided and padded", "dilated rows", "valid", "four channels"],
)
@pytest.mark.parametrize("normalized", [True, False], ids=["normalised", "folded before"])
def test_a_convolution_takes_pixels_as_they_lie(
    channels: int, attributes: dict[str, Any], shape: tuple[int, ...], normalized: bool
) -> None:
    pixels = Pixels(channels)
    model = model_of(
        [*pixels_to("i", flat=False), first_conv(**attributes)],
        pixels.shape,
        pixels=True,
        w=draw(*shape),
        **pixels.arrays,
    )
    passes = [FoldPixelLayout()] if normalized else [FoldNormalization(), FoldPixelLayout()]
    folded, results = run_passes(model, passes=passes)
    left = ["Mul", "Add"] if normalized else ["Add"] if "pads" in attributes else []
    assert operators(folded) == ["Reshape", "Cast", *left, "Conv"]
    assert results[-1].num_applied == 1
    assert_same_outputs(model, folded, pixels.images())


@pytest.mark.parametrize("is_transposed", [0, 1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("normalized", [True, False], ids=["normalised", "folded before"])
def test_a_linear_layer_takes_pixels_as_they_lie(channels: int, is_transposed: int, normalized: bool) -> None:
    pixels, num_inputs = Pixels(channels), 20 * channels
    weight = draw(*((6, num_inputs) if is_transposed else (num_inputs, 6)))
    arrays = pixels.arrays | {"w": weight, "b": draw(6), "k": np.array([-1, num_inputs])}
    model = model_of([*pixels_to("f"), gemm("f", transB=is_transposed)], pixels.shape, pixels=True, **arrays)
    passes = [FoldPixelLayout()] if normalized else [FoldNormalization(), FoldPixelLayout()]
    folded, _ = run_passes(model, passes=passes)
    assert operators(folded) == ["Reshape", "Cast", *(["Mul", "Add"] if normalized else []), "Gemm"]
    assert_same_outputs(model, folded, pixels.images())


@pytest.mark.parametrize(
    ("pixels", "attributes", "shape"),
    [
        (Pixels(3), {"group": 3}, (6, 1, 3, 3)),
        (Pixels(3), {"dilations": [1, 2]}, (6, 3, 2, 2)),
        (Pixels(3), {"auto_pad": "SAME_UPPER"}, (6, 3, 3, 3)),
        (Pixels(1, 3), {"pads": [1, 1, 1, 1]}, (6, 3, 3, 3)),
    ],
    ids=["groups", "dilated columns", "automatic padding", "a repeat that stays"],
)
def test_a_layout_without_its_precondition_is_left_alone(
    pixels: Pixels, attributes: dict[str, Any], shape: tuple[int, ...]
) -> None:
    nodes = [*pixels_to("i", pixels.repeat > 1, flat=False), first_conv(**attributes)]
    model = model_of(nodes, pixels.shape, pixels=True, w=draw(*shape), **pixels.arrays)
    folded, (result,) = run_passes(model, passes=[FoldPixelLayout()])
    assert result.num_applied == 0
    assert operators(folded) == operators(model)


def test_planes_that_something_else_uses_or_whose_size_is_free_stay() -> None:
    shared = [*pixels_to("i", flat=False), first_conv(), helper.make_node("ReduceMean", ["c"], ["q"])]
    for nodes, shape in (
        ([*shared[:-2], helper.make_node("Conv", ["i", "w"], ["z"]), shared[-1], AFTER], Pixels(3).shape),
        ([*pixels_to("i", flat=False), first_conv()], ("n", "h", "v", 3)),
    ):
        model = model_of(nodes, shape, pixels=True, w=draw(6, 3, 3, 3), **Pixels(3).arrays)
        _, (result,) = run_passes(model, passes=[FoldPixelLayout()])
        assert result.num_applied == 0


AFTER = helper.make_node("Add", ["z", "q"], ["y"])


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(0, 2)] * 4),
    st.integers(0, 2**32 - 1),
)
def test_folding_the_layout_never_changes_what_is_computed(
    channels: int, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[int, ...], seed: int
) -> None:
    random = np.random.default_rng(seed)
    weight = random.normal(size=(2, channels, *kernel)).astype(np.float32)
    conv = first_conv(strides=strides, pads=pads, kernel_shape=kernel)
    pixels = Pixels(channels)
    model = model_of([*pixels_to("i", flat=False), conv], pixels.shape, pixels=True, w=weight, **pixels.arrays)
    folded, _ = run_passes(model, passes=[FoldNormalization(), FoldPixelLayout()])
    assert "Transpose" not in operators(folded)
    assert_same_outputs(model, folded, random.integers(0, 256, (2, 5, 4, channels), np.uint8))


# Leftovers


def test_identities_dead_nodes_and_doubles_are_removed() -> None:
    one = draw(6)
    nodes = [
        helper.make_node("Identity", ["x"], ["i"]),
        helper.make_node("Expand", ["i", "ones"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["h"]),
        helper.make_node("Mul", ["h", "same"], ["y"]),
        helper.make_node("Relu", ["h"], ["dead"]),
    ]
    arrays = {"one": one, "same": one.copy(), "unused": draw(3), "ones": np.array([1, 1])}
    model = model_of(nodes, ("n", 6), **arrays)
    cleaned, _ = run_passes(model, passes=[RemoveDeadCode()])
    assert operators(cleaned) == ["Add", "Mul"]
    assert len(cleaned.graph.initializers) == 1
    assert_same_outputs(model, cleaned, draw(3, 6))


# The sequence


@dataclass(frozen=True)
class Fault:
    """A pass that does something else than it promises."""

    what: str
    name: str = "faulty"
    is_optional: bool = True

    def apply(self, model: ir.Model) -> int:
        node = next(iter(model.graph))
        if self.what == "invalid":
            node.op_type = "NoSuchOperator"
        if self.what == "renames":
            model.graph.outputs[0].name = "z"
        if self.what == "raises":
            raise ValueError("no such thing")
        return 1

    def remaining(self, model: ir.Model) -> Sequence[str]:
        return ["that one"] if self.what == "leaves" else []


FAULTS = pytest.mark.parametrize(
    ("what", "match"),
    [
        ("invalid", "gives an invalid graph: No Op registered for NoSuchOperator"),
        ("renames", "changed the inputs or outputs"),
        ("raises", "fails: no such thing"),
        ("leaves", "did not change that one, which it should have changed"),
    ],
)


@FAULTS
def test_an_optional_pass_that_fails_is_left_out_with_its_reason(what: str, match: str) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ("n", 6))
    chosen, (result,) = run_passes(model, passes=[Fault(what)])
    assert operators(chosen) == operators(model) == ["Relu"]
    assert not result.was_kept
    assert re.match(f"Left out: it {match}", result.reason)


@FAULTS
def test_a_pass_that_the_others_need_and_that_fails_is_an_error(what: str, match: str) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ("n", 6))
    with pytest.raises(NotExportable, match=f"the pass 'faulty' {match}"):
        run_passes(model, passes=[Fault(what, is_optional=False)])


def test_a_pass_is_not_blamed_for_a_graph_that_was_invalid_before() -> None:
    nodes = [helper.make_node("DeformConv", ["x", "w", "o"], ["y"])]
    model = model_of(nodes, ("n", 1, 4, 4), w=draw(1, 1, 1, 1), o=draw(1, 2, 4, 4))
    model.opset_imports[""] = 18
    with pytest.raises(NotExportable, match=r"that torch\.onnx wrote is invalid: No Op registered.*`--opset 19`"):
        run_passes(model, passes=[Fault("nothing", is_optional=False)])


@pytest.mark.parametrize(
    ("together", "expected"),
    [(1.5, [["Conv"]]), (2.5, [["Conv"], ["Conv", "BatchNormalization"], ["Conv"]])],
    ids=["precise", "costly"],
)
def test_passes_are_measured_together_and_one_by_one_only_where_they_cost_precision(
    together: float, expected: list[list[str]]
) -> None:
    model = model_of([conv(), norm("h")], ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    measured: list[list[str]] = []

    def measure(given: ir.Model) -> float:
        measured.append(operators(given))
        return together

    passes = [Fault("renames nothing", is_optional=False), FoldBatchNorm(), RemoveDeadCode()]
    chosen, results = run_passes(model, measure=measure, passes=passes)
    assert measured == expected
    assert operators(chosen) == ["Conv"]
    assert results[1].noise_ratio_after == together
    assert results[0].noise_ratio_after is None


def test_nothing_is_measured_where_no_pass_changed_anything() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], ("n", 6))
    _, (result,) = run_passes(model, measure=lambda given: 1 / 0, passes=[FoldBatchNorm()])
    assert (result.was_kept, result.reason) == (True, "Nothing to change.")


def test_a_graph_that_does_not_run_without_the_passes_keeps_them() -> None:
    model = model_of([conv(), norm("h")], ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    _, (result,) = run_passes(model, measure=lambda given: math.inf, passes=[FoldBatchNorm()])
    assert (result.was_kept, result.reason) == (True, "It was not measured.")


def test_a_pass_after_which_the_graph_does_not_run_is_left_out() -> None:
    model = model_of([conv(), norm("h")], ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    chosen, (result,) = run_passes(
        model,
        measure=lambda given: 1.0 if "BatchNormalization" in operators(given) else math.inf,
        passes=[FoldBatchNorm()],
    )
    assert operators(chosen) == ["Conv", "BatchNormalization"]
    assert (result.noise_ratio_after, result.reason) == (None, "Left out: the graph does not run with it.")


@pytest.mark.parametrize(
    ("before", "after", "is_kept"),
    [(1.0, 1.9, True), (1.0, 2.1, False), (2.5, 2.4, True), (2.5, 2.6, False), (1.0, math.nan, False)],
)
def test_a_pass_is_left_out_where_the_ratio_is_above_two_and_above_what_it_was(
    before: float, after: float, is_kept: bool
) -> None:
    model = model_of([conv(), norm("h")], ("n", 4, 7, 9), w=draw(6, 4, 3, 3), **batch_norm(6))
    chosen, (result,) = run_passes(
        model,
        measure=lambda given: before if "BatchNormalization" in operators(given) else after,
        passes=[FoldBatchNorm()],
    )
    assert operators(chosen) == (["Conv"] if is_kept else ["Conv", "BatchNormalization"])
    assert result.was_kept == is_kept
    assert is_kept or "It would raise the noise ratio from" in result.reason


@pytest.mark.parametrize("is_seen_at_first", [True, False])
def test_a_normalisation_that_would_cost_precision_is_left_out_and_the_report_says_so(
    is_seen_at_first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # pixels close to the mean: of the folded sums little is left
    signature = Signature(8, 8, 1, (0.9,), (0.005,), ("a", "b", "c", "d"))
    images = RANDOM.integers(228, 232, (64, 8, 8, 1), np.uint8)
    if not is_seen_at_first:  # the few samples on which passes are measured do not show it; the gate's do
        measures = iter([lambda *arguments: lambda model: 1.0, noise_ratio_of])
        monkeypatch.setattr("onward_export.publish.noise_ratio_of", lambda *arguments: next(measures)(*arguments))
    torch.manual_seed(0)
    bundle = publish(
        ModelToExport(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), signature, images),
        tmp_path / "near",
        options=ExportOptions(formats=("onnx",)),
    )
    (artifact,) = bundle.parity()["artifacts"]
    result = next(item for item in artifact["passes"] if item["name"].startswith("normalisation"))
    assert not result["was_kept"]
    assert result["noise_ratio_after"] > 2 >= result["noise_ratio_before"]
    assert result["reason"] in (bundle.path / "parity.html").read_text()
    assert artifact["passed"]


# The whole way


def test_names_and_origins_survive() -> None:
    deployable = Deployable(Residual(), RGB)
    program = export_program(deployable, RGB)
    model, _ = run_passes(_translate(program, SIGNATURE, ExportOptions())[0])
    names = [re.sub(r"_\d+", "", node.outputs[0].name) for node in model.graph]  # PyTorch counts as it likes
    assert names == [
        *("permute_interleaved", "_to_copy_interleaved", "add_unscaled_interleaved", "getitem", "relu", "getitem"),
        *("add", "relu", "mean", "logits", "probabilities"),
    ]
    assert all("namespace" in node.metadata_props for node in model.graph)
    norms = [node.metadata_props["namespace"] for node in model.graph if node.op_type == "Conv"]
    assert ["batch_norm" in text for text in norms] == [True, True]


def test_the_report_has_a_line_for_every_pass(tmp_path: Path) -> None:
    bundle = publish(ModelToExport(Residual(), RGB), tmp_path / "model", options=ExportOptions(formats=("onnx",)))
    (artifact,) = bundle.parity()["artifacts"]
    page = (bundle.path / "parity.html").read_text()
    assert [item["name"] for item in artifact["passes"]] == [item.name for item in PASSES]
    assert "<h2>Passes</h2>" in page
    assert all(item.name in page for item in PASSES)


def test_the_pinned_onnxscript_has_every_rule() -> None:
    assert len(RULES) == len(RULE_NAMES)
