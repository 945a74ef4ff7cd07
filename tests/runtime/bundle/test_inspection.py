"""What an ONNX file says of itself is read without its weights, and from no bytes comes anything but an answer."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.bundle import Bundle
from onward.bundle.inspection import inspect_onnx
from onward.bundle.onnx_header import read_header
from onward.errors import BundleError

onnx = pytest.importorskip("onnx", reason="onnx, which makes these files, is not installed here")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def a_model(*, weights: int = 12) -> onnx.ModelProto:
    """x -> If(Relu, Neg) of a product, with an opset of another domain and an attribute that is a tensor."""
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["y"], [f"z_{op}"])],
            op,
            [],
            [helper.make_tensor_value_info(f"z_{op}", TensorProto.FLOAT, None)],
        )
        for op in ("Relu", "Neg")
    ]
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Gelu", ["z"], ["out"], domain="com.microsoft"),
    ]
    weight = numpy_helper.from_array(np.ones((3, weights // 3), np.float32), "w")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", None])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="hand", producer_version="1.5")
    helper.set_model_props(model, {"author": "somebody", "ünïcode": "→"})
    return model


def test_what_onnx_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(a_model(), path)
    header = read_header(path)
    assert (header.ir_version, header.producer, header.producer_version) == (10, "hand", "1.5")
    assert header.opsets == {"ai.onnx": 18, "com.microsoft": 1}
    assert header.metadata == {"author": "somebody", "ünïcode": "→"}
    assert [(value.name, value.dtype, value.shape) for value in header.inputs] == [("x", "float32", ("batch", 3))]
    assert [(value.name, value.dtype, value.shape) for value in header.outputs] == [("out", "float32", ("batch", None))]
    assert header.nodes == {"Constant": 1, "If": 1, "MatMul": 1, "Neg": 1, "Relu": 1, "com.microsoft.Gelu": 1}
    assert (header.num_initializers, header.initializers_bytes) == (1, 48)
    assert header.size_bytes == path.stat().st_size


def test_a_file_of_ours_is_read_as_onnx_reads_it(shared_bundle: Bundle) -> None:
    path = shared_bundle.path / "model.onnx"
    model, document = onnx.load(path), inspect_onnx(path)
    assert document["signature"] == shared_bundle.signature.to_json()
    assert document["num_nodes"] == len(model.graph.node)
    assert document["num_initializers"] == len(model.graph.initializer)
    assert document["initializers_bytes"] == sum(numpy_helper.to_array(item).nbytes for item in model.graph.initializer)
    assert document["opsets"] == {"ai.onnx": model.opset_import[0].version}
    assert document["inputs"][0] == {"name": "image", "dtype": "uint8", "shape": ("batch", 8, 8, 1)}
    provenance = json.loads(document["metadata"]["onward.provenance"])
    assert {"validation_accuracy", "weights_sha256", "torch", "best_epoch"} <= provenance.keys()


def test_weights_are_stepped_over(tmp_path: Path) -> None:
    """The middle of a large file may be anything: it is not read."""
    path = tmp_path / "model.onnx"
    onnx.save(a_model(weights=3_000_000), path)
    before = read_header(path)
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        stream.write(b"\xff" * 1000)
    assert read_header(path) == before
    assert before.initializers_bytes == 12_000_000


@pytest.mark.parametrize(
    ("location", "state"),
    [("w.data", "there"), ("gone.data", "missing"), ("../w.data", "outside"), ("/etc/passwd", "outside")],
)
def test_weights_beside_it_are_named_and_none_outside_is_looked_at(location: str, state: str, tmp_path: Path) -> None:
    model = a_model()
    tensor = model.graph.initializer[0]
    (tmp_path / "w.data").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (found,) = inspect_onnx(tmp_path / "model.onnx")["external"]
    assert found["location"] == location
    assert found["state"].startswith(state)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is text\n", b"\x00" * 100, b"\x08\x0a", b"\x3a\xff\xff\xff\xff\x0f", b"PK\x03\x04" + bytes(50)],
)
def test_what_is_no_model_is_refused_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="neither a bundle, nor a checkpoint, nor an ONNX model"):
        inspect_onnx(path)


def test_a_model_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = a_model().SerializeToString()
    path = tmp_path / "model.onnx"
    refused = 0
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        try:
            read_header(path)
        except BundleError:
            refused += 1
    assert refused >= len(whole) * 0.9, "only a cut between two fields at the top leaves a model"


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10_000), value=st.binary(min_size=1, max_size=8))
def test_whatever_is_changed_there_is_an_answer_or_a_bundle_error(at: int, value: bytes, tmp_path: Path) -> None:
    data = bytearray(a_model().SerializeToString())
    data[at % len(data) : at % len(data) + len(value)] = value
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with contextlib.suppress(BundleError):
        inspect_onnx(path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_no_bytes_make_anything_but_an_answer_or_a_bundle_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with contextlib.suppress(BundleError):
        inspect_onnx(path)


def test_a_signature_that_is_none_is_said(tmp_path: Path) -> None:
    model = a_model()
    helper.set_model_props(model, {"onward.signature": "{"})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"model\.onnx, metadata 'onward\.signature' is not JSON"):
        inspect_onnx(tmp_path / "model.onnx")
