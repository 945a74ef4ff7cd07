"""What an ONNX file would open beside itself: planted files work in onnxruntime alone, and are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from onward.backends import open_backend  # noqa: E402
from onward.bundle.onnx_content import check_onnx  # noqa: E402
from onward.errors import BackendError, BundleError  # noqa: E402

SECRET = np.arange(1, 5, dtype=np.float32)


def external(location: str | None, **entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in ({} if location is None else {"location": location} | entries).items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(weight: TensorProto) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("Max", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_onnxruntime_alone_reads_a_file_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SECRET.tofile("secret")
    data = model_of(external("secret")).SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # some need a path of the model
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": np.zeros((1, 4), np.float32)})[0][0], SECRET)
    with pytest.raises(BundleError, match=r"weights in the file 'secret', expected none"):
        open_backend("onnx", data, None)
    with pytest.raises(BundleError, match=r"weights in the file 'secret', expected model\.onnx\.data"):
        open_backend("onnx", data, None, beside={"model.onnx.data": bytes(16)})
    backend = open_backend("onnx", data, None, beside={"secret": SECRET.tobytes()})
    np.testing.assert_array_equal(backend.run(np.zeros((1, 4), np.float32))["y"][0], SECRET)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret", "./w.data", "sub/../w.data", "*/_ORT_MEM_ADDR_/*", "", None]
)
def test_only_files_beside_it_by_their_plain_names(location: str | None) -> None:
    with pytest.raises(BundleError, match="has weights in the file"):
        check_onnx(model_of(external(location)).SerializeToString(), {"w.data": bytes(16)})


def test_the_whole_of_the_values_must_be_there() -> None:
    check_onnx(model_of(external("w.data", offset="0", length="16")).SerializeToString(), {"w.data": bytes(16)})
    with pytest.raises(BundleError, match=r"up to byte 20 of w\.data, which has 16 bytes"):
        check_onnx(model_of(external("w.data", offset="4", length="16")).SerializeToString(), {"w.data": bytes(16)})
    with pytest.raises(BundleError, match="does not say where"):
        check_onnx(model_of(external("w.data", offset="-4")).SerializeToString(), {"w.data": bytes(16)})


def in_an_attribute(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def in_a_branch(model: onnx.ModelProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([], "b", [], [], [tensor])
    model.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=branch, else_branch=branch))


def in_a_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    model.functions.append(helper.make_function("d", "f", [], ["c"], [node], []))


def in_sparse_values(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def in_training(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.training_info.add().algorithm.initializer.append(tensor)


@pytest.mark.parametrize("put", [in_an_attribute, in_a_branch, in_a_function, in_sparse_values, in_training])
def test_weights_are_found_wherever_they_are(put: Callable[[onnx.ModelProto, TensorProto], None]) -> None:
    model = model_of(helper.make_tensor("w", TensorProto.FLOAT, [4], SECRET))
    check_onnx(model.SerializeToString(), {})
    put(model, external("secret"))
    with pytest.raises(BundleError, match="has weights in the file 'secret'"):
        check_onnx(model.SerializeToString(), {})


def test_a_location_said_twice_is_refused() -> None:
    tensor = external("w.data")
    tensor.external_data.add(key="location", value="secret")
    with pytest.raises(BundleError, match="says twice"):
        check_onnx(model_of(tensor).SerializeToString(), {"w.data": bytes(16)})


def test_programs_for_a_device_and_other_formats_are_refused() -> None:
    model = model_of(helper.make_tensor("w", TensorProto.FLOAT, [4], SECRET))
    model.graph.node.append(helper.make_node("EPContext", ["x"], ["z"], domain="com.microsoft"))
    with pytest.raises(BundleError, match="compiled for a device"):
        check_onnx(model.SerializeToString(), {})
    with pytest.raises(BackendError, match="onnxruntime's own format"):
        check_onnx(b"\x0a\x10\x00\x00ORTM" + bytes(20), {})


@pytest.mark.parametrize("data", [b"\0", b"\x0a\x7f", b"\xff" * 20, b"\x3a\x05\x0a\xff\xff\xff\xff", b"\x0f"])
def test_what_is_no_model_is_a_backend_error(data: bytes) -> None:
    with pytest.raises(BackendError, match="damaged or no ONNX model"):
        check_onnx(data, {})
