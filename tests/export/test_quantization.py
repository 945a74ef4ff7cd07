"""The quantised graph: how it is rounded, what runtimes make of it, and which wrong files the account refuses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import numpy_helper
from small_graphs import RESIDUAL_SHAPE, residual_network

from onward.backends import Threads, open_backend
from onward.bundle import Bundle
from onward.errors import NotExportable
from onward_export.quantization.account import unexplained
from onward_export.quantization.calibration import Ranges, measure_ranges
from onward_export.quantization.graph import quantize_graph
from onward_export.quantization.integers import Activation, quantize_weights
from onward_export.quantization.placement import IntegerPlacement, name_of, place
from onward_export.quantization.preparation import prepare
from onward_export.quantization.simulation import Simulation
from onward_training.data import Dataset

NAMES = ("residual", "digits")


@dataclass(frozen=True)
class Graph:
    """A prepared float32 graph, with images."""

    prepared: ir.Model
    images: np.ndarray

    @cached_property
    def placement(self) -> IntegerPlacement:
        return place(self.prepared)

    @cached_property
    def ranges(self) -> Ranges:
        return measure_ranges(self.prepared, self.placement.measured, self.images)

    @cached_property
    def float32(self) -> onnx.ModelProto:
        return ir.to_proto(self.prepared)

    @cached_property
    def seven_bits(self) -> bytes:
        return bytes(self.quantize(7).SerializeToString())

    def quantize(self, bits: int, ranges: Ranges | None = None) -> onnx.ModelProto:
        return ir.to_proto(quantize_graph(self.prepared, ranges or self.ranges, weight_bits=bits))

    def file(self) -> onnx.ModelProto:
        """With weights of 7 bits, to play with."""
        return onnx.load_from_string(self.seven_bits)

    def judge(self, file: onnx.ModelProto) -> list[str]:
        return unexplained(file, self.prepared, self.placement, self.ranges)


@pytest.fixture(scope="module", params=NAMES)
def graph(request: pytest.FixtureRequest) -> Graph:
    """A prepared float32 graph, and images."""
    if request.param == "residual":
        images = np.random.default_rng(1).integers(0, 256, (64, *RESIDUAL_SHAPE), np.uint8)
        return Graph(prepare(ir.from_proto(residual_network())), images)
    bundle: Bundle = request.getfixturevalue("shared_bundle")
    digits: Dataset = request.getfixturevalue("digits")
    model = onnx.load_from_string(bundle.read(bundle.artifact("onnx").file))
    return Graph(prepare(ir.from_proto(model)), digits.train.read(slice(64))[0])


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    backend = open_backend("onnx", model.SerializeToString(), None, threads=Threads(1))
    return np.asarray(backend.run({"image": images})["logits"])


# --- rounding --------------------------------------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_zero_has_an_integer_and_the_range_is_reached(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    activation = Activation.of_range(low, high)
    reached, step = activation.range, float(activation.scale)
    assert step > 0
    assert reached[0] <= 0 <= reached[1]
    assert reached[0] <= low + 0.5001 * step
    assert reached[1] >= high - 0.5001 * step


@given(
    arrays(np.float64, (4, 3, 2), elements=st.floats(-100, 100)),
    arrays(np.float64, 4, elements=st.floats(-1e5, 1e5)),
    st.sampled_from((7, 8)),
    st.sampled_from((1e-6, 1e-3, 1.0)),
)
def test_weights_and_biases_are_off_by_half_a_step(
    weight: np.ndarray, bias: np.ndarray, bits: int, input_scale: float
) -> None:
    found = quantize_weights(weight, bias, 0, np.float32(input_scale), bits)
    steps = found.scales.astype(np.float64).reshape(4, 1, 1)
    assert np.abs(found.weight.astype(np.int16)).max() <= (63 if bits == 7 else 127)
    assert np.all(np.abs(found.weight * steps - weight) <= 0.5001 * steps)
    assert found.bias is not None
    off = np.abs(found.bias * found.bias_scales.astype(np.float64) - bias)
    # float32 holds a product of two scales to 24 bits; a bias has 31
    assert np.all(off <= 0.5001 * found.bias_scales + np.abs(bias) * np.finfo(np.float32).eps)


def test_the_axis_of_outputs_decides_the_scales() -> None:
    weight = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    found = quantize_weights(weight, None, 1, np.float32(1), 7)
    assert found.weight.tolist() == [[21, 21], [42, 42], [63, 63]]
    assert found.bias is None
    transposed = quantize_weights(weight.T, None, 0, np.float32(1), 7)
    assert np.array_equal(transposed.weight.T, found.weight)


# --- the graph -------------------------------------------------------------------------------------------------------


def test_preparing_changes_nothing_but_rounding(graph: Graph) -> None:
    if graph.images.shape[1:] == RESIDUAL_SHAPE:
        before, after = run(residual_network(), graph.images), run(graph.float32, graph.images)
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)
        assert "HardSigmoid" not in [node.op_type for node in graph.prepared.graph]


def test_onnxruntime_runs_everything_with_integer_kernels(graph: Graph, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(tmp_path / "optimized.onnx")
    ort.InferenceSession(graph.seven_bits, options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    stray = {"QuantizeLinear", "DequantizeLinear", "Cast", "Conv", "Gemm", "MatMul", "Relu", "Clip", "Add", "Mul"}
    assert not stray & set(found), found
    assert found["QGemm"] >= 1


def test_the_kernels_compute_what_the_graph_means(graph: Graph) -> None:
    simulated = Simulation(graph.file()).run(graph.images)["logits"]
    error = np.sqrt(np.mean((simulated - run(graph.float32, graph.images)) ** 2))
    assert np.sqrt(np.mean((run(graph.file(), graph.images) - simulated) ** 2)) < 0.5 * error
    assert simulated.dtype == np.float64


def test_constants_inside_nodes_are_simulated_in_float64_too() -> None:
    """As exporters write them: in attributes, by their shape alone, and by a cast."""
    constant = numpy_helper.from_array(np.float32([0.1]), "constant")
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Constant", [], ["tenth"], value=constant),
        onnx.helper.make_node("Constant", [], ["shape"], value_ints=[1]),
        onnx.helper.make_node("ConstantOfShape", ["shape"], ["zero"]),
        onnx.helper.make_node("Mul", ["cast", "tenth"], ["product"]),
        onnx.helper.make_node("Add", ["product", "zero"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "constants",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 2])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    given = Simulation(model).run(np.array([[1, 7]], np.uint8))["logits"]
    assert given.dtype == np.float64
    assert given.tolist() == [[np.float64(np.float32(0.1)), 7 * np.float64(np.float32(0.1))]]


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("size", "stride"), [(7, 1), (8, 2), (9, 3)])
def test_every_padding_of_a_convolution_is_simulated(auto_pad: str, size: int, stride: int) -> None:
    chance = np.random.default_rng(0)
    image = chance.integers(0, 256, (2, 1, size, size), np.uint8)
    weight = numpy_helper.from_array(chance.standard_normal((3, 1, 3, 2)).astype(np.float32), "weight")
    attributes = {"strides": [stride, 1], "auto_pad": auto_pad}
    if not auto_pad.startswith("SAME"):  # with which onnxruntime takes no dilation
        attributes["dilations"] = [2, 1]
    if auto_pad == "NOTSET":
        attributes["pads"] = [1, 0, 2, 1]
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Conv", ["cast", "weight"], ["logits"], **attributes),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "convolution",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 1, size, size])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)],
        [weight],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    np.testing.assert_allclose(Simulation(model).run(image)["logits"], run(model, image), rtol=1e-5, atol=1e-3)


def test_eight_bits_are_closer_than_seven(graph: Graph) -> None:
    expected = run(graph.float32, graph.images)
    errors = [np.square(run(graph.quantize(bits), graph.images) - expected).mean() for bits in (8, 7)]
    assert errors[0] < errors[1] < np.square(expected).mean() / 50


def test_nodes_that_stay_in_float_compute_in_float(graph: Graph) -> None:
    names = [name_of(node) for node in graph.placement.nodes]

    def in_float(names: list[str]) -> onnx.ModelProto:
        return ir.to_proto(quantize_graph(graph.prepared, graph.ranges, weight_bits=7, in_float=frozenset(names)))

    expected = run(graph.float32, graph.images)
    np.testing.assert_allclose(run(in_float(names), graph.images), expected, rtol=1e-5, atol=1e-5)
    assert len(place(graph.prepared, names[:2]).nodes) == len(names) - 2
    assert not np.allclose(run(in_float(names[:2]), graph.images), expected, rtol=1e-5, atol=1e-5)


def test_equal_inputs_give_equal_bytes(graph: Graph) -> None:
    again = measure_ranges(graph.prepared, graph.placement.measured, graph.images)
    assert graph.quantize(7, again).SerializeToString() == graph.seven_bits


def test_a_value_that_is_not_finite_has_no_range() -> None:
    model = residual_network()
    for initializer in model.graph.initializer:
        if initializer.name == "second.bias":
            initializer.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "second.bias"))
    prepared = prepare(ir.from_proto(model))
    with pytest.raises(NotExportable, match="NaN or infinite"):
        measure_ranges(prepared, place(prepared).measured, np.zeros((1, *RESIDUAL_SHAPE), np.uint8))


# --- the account -----------------------------------------------------------------------------------------------------

Fault = Callable[[onnx.ModelProto, str], None]


def _constant(file: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    for initializer in file.graph.initializer:
        if initializer.name == name:
            array = numpy_helper.to_array(initializer)
            initializer.CopyFrom(numpy_helper.from_array(np.asarray(change(array), array.dtype), name))
            return
    raise AssertionError(f"no constant {name}")


def scale_doubled(file: onnx.ModelProto, value: str) -> None:
    _constant(file, f"{value}_scale", lambda scale: scale * 2)


def scale_halved(file: onnx.ModelProto, value: str) -> None:
    _constant(file, f"{value}_scale", lambda scale: scale / 2)


def zero_point_off_by_one(file: onnx.ModelProto, value: str) -> None:
    _constant(file, f"{value}_scale_zero", lambda zero: zero + 1 if zero < 255 else zero - 1)


def read_with_another_scale(file: onnx.ModelProto, value: str) -> None:
    file.graph.initializer.append(numpy_helper.from_array(np.float32(7), "other"))
    node = next(node for node in file.graph.node if node.name == f"{value}_dequantize")
    node.input[1] = "other"


@pytest.mark.parametrize("fault", [scale_doubled, scale_halved, zero_point_off_by_one, read_with_another_scale])
def test_a_wrong_parameter_of_any_value_is_named(graph: Graph, fault: Fault) -> None:
    assert graph.judge(graph.file()) == []
    for value in graph.placement.measured:
        file = graph.file()
        fault(file, value.name or "")
        assert any(str(value.name) in reason for reason in graph.judge(file)), value.name


def weight_moved(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[0] += 1 if array.flat[0] <= 0 else -1
    return array


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("weight_integers", weight_moved),
        ("weight_scales", lambda scales: scales * 2),
        ("weight_zero_points", lambda zeros: zeros + 1),
        ("bias_integers", lambda integers: integers + 1),
        ("bias_scales", lambda scales: scales * 1.5),
    ],
)
def test_a_wrong_number_of_any_layer_is_named(
    graph: Graph, part: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    for layer in _layers(graph.placement):
        file = graph.file()
        _constant(file, f"{layer}.{part}", change)
        assert any(layer in reason for reason in graph.judge(file)), layer


def test_calibration_under_a_wrong_normalisation_is_named(graph: Graph) -> None:
    wrong = measure_ranges(graph.prepared, graph.placement.measured, graph.images // 2)
    assert any("do not fit its range" in reason for reason in graph.judge(graph.quantize(7, wrong)))


def test_scales_that_are_coarser_than_they_must_be_are_named(graph: Graph) -> None:
    layer, file = _layers(graph.placement)[-1], graph.file()
    _constant(file, f"{layer}.weight_scales", lambda scales: scales * 2)
    _constant(file, f"{layer}.weight_integers", lambda integers: np.rint(integers / 2))
    assert any("larger than its values need" in reason for reason in graph.judge(file))


def attribute_changed(file: onnx.ModelProto) -> None:
    next(item for node in _all(file, "Conv") for item in node.attribute if item.name == "pads").ints[0] += 1


def attribute_missing(file: onnx.ModelProto) -> None:
    node, pads = next((node, item) for node in _all(file, "Conv") for item in node.attribute if item.name == "pads")
    node.attribute.remove(pads)


def constant_changed(file: onnx.ModelProto) -> None:
    sizes = next(node.input[1] for node in file.graph.node if node.op_type == "Reshape")
    _constant(file, sizes, lambda array: array * np.array([1] * (len(array) - 1) + [-1]))


def reads_another_value(file: onnx.ModelProto) -> None:
    last = _all(file, "Gemm")[-1]
    last.input[0] = next(name for name in _dequantized(file) if name != last.input[0])


def rounds_another_value(file: onnx.ModelProto) -> None:
    one, other = _all(file, "QuantizeLinear")[:2]
    one.input[0] = other.input[0]


def outputs_exchanged(file: onnx.ModelProto) -> None:
    one, other = file.graph.output
    one.name, other.name = other.name, one.name


def _all(file: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [node for node in file.graph.node if node.op_type == op_type]


def _dequantized(file: onnx.ModelProto) -> list[str]:
    constants = {item.name for item in file.graph.initializer}
    return [node.output[0] for node in _all(file, "DequantizeLinear") if node.input[0] not in constants]


@pytest.mark.parametrize(
    "fault",
    [
        attribute_changed,
        attribute_missing,
        constant_changed,
        reads_another_value,
        rounds_another_value,
        outputs_exchanged,
    ],
)
def test_another_graph_than_that_of_float32_is_named(graph: Graph, fault: Callable[[onnx.ModelProto], None]) -> None:
    file = graph.file()
    fault(file)
    assert graph.judge(file)


def test_a_weight_that_stays_in_float_is_accounted_for(graph: Graph) -> None:
    layer = _layers(graph.placement)[-1]
    placement = place(graph.prepared, [layer])
    file = ir.to_proto(quantize_graph(graph.prepared, graph.ranges, weight_bits=7, in_float=frozenset([layer])))
    assert unexplained(file, graph.prepared, placement, graph.ranges) == []
    _constant(file, f"{layer}.weight", lambda weight: weight * np.float32(1.001))
    assert any(layer in reason for reason in unexplained(file, graph.prepared, placement, graph.ranges))


def test_a_node_that_float32_does_not_have_is_named(graph: Graph) -> None:
    file = graph.file()
    file.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["copy"]))
    assert any("Identity" in reason for reason in graph.judge(file))


def _layers(placement: IntegerPlacement) -> list[str]:
    return [name_of(node) for node in placement.nodes if node.op_type in ("Conv", "Gemm")]


def test_ranges_are_the_extremes_over_all_images(graph: Graph) -> None:
    prepared, measured, images = graph.prepared, graph.placement.measured, graph.images
    halves = [measure_ranges(prepared, measured, images[part]) for part in (slice(32), slice(32, None))]
    for name, found in graph.ranges.items():
        assert found.low == min(half[name].low for half in halves)
        assert found.high == max(half[name].high for half in halves)
