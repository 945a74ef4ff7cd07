"""ONNX files that Onward did not write: their own names of inputs and outputs, and no signature."""

from __future__ import annotations

import os

import numpy as np
import pytest

from onward.backends import backends_of, open_backend
from onward.bundle import Bundle
from onward.errors import BackendError, FeedError

onnx = pytest.importorskip("onnx", reason="onnx, which makes these files, is not installed here")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def foreign(nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto], *constants: onnx.TensorProto) -> bytes:
    """A model of anybody's, with two inputs `b` and `a`: float32 `(n, 3)`."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "ba"]
    graph = helper.make_graph(nodes, "foreign", inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


DIFFERENCE = helper.make_node("Sub", ["b", "a"], ["zeta"])
POSITION = helper.make_node("ArgMax", ["zeta"], ["alpha"], axis=1, keepdims=0)
OUTPUT_INFO = [
    helper.make_tensor_value_info("zeta", TensorProto.FLOAT, ["n", 3]),
    helper.make_tensor_value_info("alpha", TensorProto.INT64, ["n"]),
]
A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.array([[5, 0, 0], [0, 0, 9]], np.float32)


@pytest.fixture(params=[spec.name for spec in backends_of("onnx")])
def onnx_backend(request: pytest.FixtureRequest) -> str:
    if request.param == "openvino" and not os.environ.get("CI"):
        pytest.importorskip("openvino", reason="openvino is not installed: `make test` installs it")
    return str(request.param)


def test_a_foreign_file_names_its_own_inputs_and_outputs(onnx_backend: str) -> None:
    backend = open_backend("onnx", foreign([DIFFERENCE, POSITION], OUTPUT_INFO), None, backend=onnx_backend)
    assert backend.signature is None
    assert (backend.inputs, backend.outputs) == (("b", "a"), ("zeta", "alpha"))
    zeta, alpha = backend.infer({"a": A, "b": B})
    np.testing.assert_array_equal(zeta, B - A)
    np.testing.assert_array_equal(alpha, [0, 2])
    assert (zeta.dtype, alpha.dtype) == (np.float32, np.int64)
    named = backend.run({"a": A, "b": B})
    np.testing.assert_array_equal(named["alpha"], [0, 2])
    assert backend.infer({"b": B[:1], "a": A[:1]})[0].shape == (1, 3)  # the batch size is free


def test_a_lone_array_is_no_feed_of_two_inputs(onnx_backend: str) -> None:
    backend = open_backend("onnx", foreign([DIFFERENCE, POSITION], OUTPUT_INFO), None, backend=onnx_backend)
    with pytest.raises(FeedError, match=r"the model takes 2 inputs \('b', 'a'\): expected a dictionary of arrays"):
        backend.run(A)


def test_a_foreign_file_under_a_signature_is_a_backend_error(shared_bundle: Bundle, onnx_backend: str) -> None:
    with pytest.raises(BackendError, match=r"inputs and outputs \['b', 'a', 'zeta', 'alpha'\], expected \['image', "):
        open_backend(
            "onnx", foreign([DIFFERENCE, POSITION], OUTPUT_INFO), shared_bundle.signature, backend=onnx_backend
        )


def test_a_foreign_output_that_is_no_tensor_is_a_backend_error(onnx_backend: str) -> None:
    info = helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None)
    data = foreign([helper.make_node("SequenceConstruct", ["a", "b"], ["both"])], [info])
    with pytest.raises(BackendError, match=r"expected a tensor|OpenVINO cannot open the ONNX file"):
        open_backend("onnx", data, None, backend=onnx_backend)


def test_foreign_weights_in_a_file_of_their_own_are_read(onnx_backend: str) -> None:
    weights = np.arange(3000, dtype=np.float32).reshape(3, 1000)
    constant = numpy_helper.from_array(weights, "w")
    content, constant.raw_data = constant.raw_data, b""
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="w.bin")
    info = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1000])]
    nodes = [DIFFERENCE, helper.make_node("MatMul", ["zeta", "w"], ["y"])]
    backend = open_backend(
        "onnx", foreign(nodes, info, constant), None, backend=onnx_backend, beside={"w.bin": content}
    )
    # whole numbers below 2**24: float32 holds every sum
    np.testing.assert_array_equal(backend.infer({"a": A, "b": B})[0], (B - A) @ weights)
