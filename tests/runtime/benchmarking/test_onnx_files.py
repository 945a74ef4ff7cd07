"""ONNX files that Onward did not write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onward.benchmarking.bench import bench
from onward.benchmarking.report import Report
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.errors import BundleError, DataError, FeedError, UsageError

onnx = pytest.importorskip("onnx", reason="onnx, which makes these files, is not installed here")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

QUICK = BenchOptions(
    batch_sizes=(1, 3), num_process_runs=1, num_rounds=2, sample_s=0.01, max_warm_up_s=0.1, pause_s=0.01
)


def write_model(path: Path, *, batch: int | str = "batch", width: int | str = 4, factor: float = 2.0) -> str:
    """Two inputs, one of them integers, and an output with an unusual name."""
    inputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, width]),
        helper.make_tensor_value_info("flags", TensorProto.INT64, [batch, 1]),
    ]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch, width])]
    nodes = [
        helper.make_node("Cast", ["flags"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["features", "factor"], ["scaled"]),
        helper.make_node("Add", ["scaled", "as_float"], ["score"]),
    ]
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "factor")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    onnx.save(model, path)
    return str(path)


def run_bench(*targets: str, backends: tuple[str, ...] = ("onnxruntime",), **more: object) -> Report:
    return bench(BenchSpec(targets, Selection(backends=backends, threads=(1,)), **more), QUICK)  # type: ignore[arg-type]


def test_random_inputs_follow_the_header(tmp_path: Path) -> None:
    report = run_bench(write_model(tmp_path / "any.onnx"), backends=("onnxruntime", "openvino"))
    assert [(row.batch_size, row.candidate.backend, row.status) for row in report.rows] == [
        (1, "onnxruntime", "measured"),
        (1, "openvino", "measured"),
        (3, "onnxruntime", "measured"),
        (3, "openvino", "measured"),
    ]
    assert all(row.noise_ratio is None for row in report.rows)  # its true outputs are unknown
    assert all(row.max_delta is not None and row.max_delta < 1e-5 for row in report.rows)
    assert report.end_to_end == ()


def test_two_files_are_compared(tmp_path: Path) -> None:
    before, after = write_model(tmp_path / "before.onnx"), write_model(tmp_path / "after.onnx", factor=2.002)
    report = run_bench(before, after, reference=before)
    assert report.reference.target == before
    assert {row.candidate.target for row in report.rows} == {before, after}
    deltas = {row.candidate.target: row.max_delta for row in report.rows}
    assert deltas[before] == 0
    assert deltas[after] is not None
    assert 1e-4 < deltas[after] < 1e-2
    assert all(row.ratio is not None for row in report.rows)


def test_a_bundle_is_compared_with_its_own_onnx_file(shared_bundle) -> None:
    bundle, file = str(shared_bundle.path), str(shared_bundle.path / "model.onnx")
    report = run_bench(bundle, file)
    assert [row.status for row in report.rows] == ["measured"] * 4


def test_a_fixed_batch_is_the_only_measured_batch_size(tmp_path: Path) -> None:
    report = run_bench(write_model(tmp_path / "fixed.onnx", batch=5))
    assert [row.batch_size for row in report.rows] == [5]
    assert report.rows[0].status == "measured"


def test_a_dynamic_axis_needs_a_size(tmp_path: Path) -> None:
    target = write_model(tmp_path / "dynamic.onnx", width="width")
    with pytest.raises(UsageError, match="--dim width=SIZE"):
        run_bench(target)
    with pytest.raises(UsageError, match="--dim names 'height', but no input"):
        run_bench(target, sizes={"height": 3})
    assert [row.status for row in run_bench(target, sizes={"width": 7}).rows] == ["measured"] * 2


def test_given_inputs(tmp_path: Path) -> None:
    target = write_model(tmp_path / "dynamic.onnx", width="width")
    features = np.random.default_rng(0).standard_normal((20, 6), np.float32)
    np.savez(tmp_path / "data.npz", features=features, flags=np.ones((20, 1), np.int64))
    report = run_bench(target, input=str(tmp_path / "data.npz"))
    assert [row.status for row in report.rows] == ["measured"] * 2


@pytest.mark.parametrize(
    ("arrays", "error", "what"),
    [
        ({"features": np.ones((2, 4), np.float32)}, FeedError, "has the arrays"),
        ({"features": np.ones((2, 4)), "flags": np.ones((2, 1), np.int64)}, UsageError, "as float64"),
        ({"features": np.ones((2, 5), np.float32), "flags": np.ones((2, 1), np.int64)}, UsageError, "of shape"),
        ({"features": np.ones((2, 4), np.float32), "flags": np.ones((3, 1), np.int64)}, UsageError, "lengths"),
    ],
)
def test_given_inputs_that_do_not_fit_are_an_error(
    arrays: dict[str, np.ndarray], error: type[Exception], what: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(error, match=what):
        run_bench(write_model(tmp_path / "any.onnx"), input=str(tmp_path / "data.npz"))


def test_an_invalid_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BundleError):
        run_bench(str(tmp_path / "text.onnx"))
    (tmp_path / "data.npz").write_text("hello")
    with pytest.raises(DataError, match=r"is no archive of arrays"):
        run_bench(write_model(tmp_path / "any.onnx"), input=str(tmp_path / "data.npz"))


def test_a_file_with_random_outputs_is_wrong(tmp_path: Path) -> None:
    node = helper.make_node("RandomUniformLike", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in "xy"]
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, tmp_path / "dice.onnx")
    report = run_bench(str(tmp_path / "dice.onnx"))
    assert {row.status for row in report.rows} == {"wrong"}
    assert "do not give the same outputs" in report.rows[0].reason
