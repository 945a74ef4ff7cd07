"""Where it begins: a fault planted in a file is named by its node, with the operator and module of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

import onward_export.publish
from benchmarks.faults.bench import FOLDED_EPSILON, FaultBench
from benchmarks.faults.networks import NetworkUnderTest
from onward.errors import ParityFailure
from onward.feed import draw
from onward.signature import Signature
from onward_export.deployable import make_deployable
from onward_export.explanation import ComparedValue, Explanation, explain, samples_to_explain
from onward_export.formats.onnx_file import OnnxExport, write_onnx
from onward_export.formats.program import export_program
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples

from networks import RGB, SIGNATURE, Attention, Plain, Residual  # isort: skip

Edit = Callable[[onnx.ModelProto], None]
ONNX = ExportOptions(formats=("onnx",))


class Stepping(nn.Module):
    """Residual, with a convolution that takes steps of two, and norms before the heads of an attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.down = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block[1].running_var.uniform_(0.001, 0.01)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        features = self.down(image)
        return self.head(self.pool(features + self.block(features)).flatten(1))


NETWORKS = {
    "plain": NetworkUnderTest("plain", Plain(), SIGNATURE),
    "residual": NetworkUnderTest("residual", Stepping().eval(), RGB),
    "attention": NetworkUnderTest("attention", Attention(), SIGNATURE),
}
#: Those of `make faults` that the outputs of these networks show.
KINDS = (
    "a weight nudged", "an activation removed", "an axis swapped", "an epsilon changed", "a stride changed",
    "Mul for Add", FOLDED_EPSILON,
)  # fmt: skip
#: Nothing in these networks can be changed so.
ABSENT = {
    ("plain", "an epsilon changed"), ("plain", "a stride changed"), ("plain", FOLDED_EPSILON), ("plain", "Mul for Add"),
    ("residual", "an epsilon changed"),
    ("attention", "an activation removed"), ("attention", "a stride changed"), ("attention", FOLDED_EPSILON),
}  # fmt: skip


@pytest.fixture(scope="module")
def benches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FaultBench]:
    folder = tmp_path_factory.mktemp("faults")
    return {name: FaultBench(subject, folder) for name, subject in NETWORKS.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS)
def test_a_planted_fault_is_found_at_its_node(network: str, kind: str, benches: dict[str, FaultBench]) -> None:
    outcomes = [benches[network].plant(kind, seed) for seed in range(4)]
    planted = [outcome for outcome in outcomes if outcome is not None]
    assert (not planted) == ((network, kind) in ABSENT)
    seen = [outcome for outcome in planted if outcome.was_seen]
    assert [outcome.sentence for outcome in seen if not outcome.is_right] == []
    assert seen or not planted, "none of four faults moved an output"


@pytest.mark.parametrize("subject", NETWORKS.values(), ids=str)
def test_in_a_sound_file_no_node_leaves_the_floor(subject: NetworkUnderTest, tmp_path: Path) -> None:
    written = write(subject.network, subject.signature, tmp_path / "model.onnx")
    feed = draw(subject.signature, 8, np.random.default_rng(1))
    explanation = explain(tmp_path / "model.onnx", written.program, feed)
    assert explanation.first is None
    assert explanation.broken is None
    assert len(explanation.points) >= 4
    assert {"logits", "probabilities"} <= {point.value for point in explanation.points}
    assert all(point.origins for point in explanation.points)


def test_the_operator_and_the_module_are_pytorch_s(tmp_path: Path) -> None:
    subject = NETWORKS["residual"]
    written = write(subject.network, subject.signature, tmp_path / "model.onnx")
    edit_file(tmp_path / "model.onnx", nudge("model.head.weight"))
    explanation = explain(tmp_path / "model.onnx", written.program, draw(RGB, 8, np.random.default_rng(1)))
    first, before = explanation.first, explanation.before
    assert first is not None
    assert before is not None
    assert first.op_type == "Gemm"
    assert str(first.origins[-1]) == "aten.linear in model.head"
    assert before.ratio <= 3 < first.ratio
    assert "from aten.linear in model.head" in explanation.sentence()
    assert explanation.to_json()["first"]["value"] == "logits"


def test_a_file_that_does_not_open_is_followed_as_far_as_it_does(tmp_path: Path) -> None:
    written = write(Plain(), SIGNATURE, tmp_path / "model.onnx")

    def narrow(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == "model.3.weight")
        array = numpy_helper.to_array(tensor)[:, :-1].copy()
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    edit_file(tmp_path / "model.onnx", narrow)
    explanation = explain(tmp_path / "model.onnx", written.program, draw(SIGNATURE, 8, np.random.default_rng(1)))
    assert explanation.first is None
    assert explanation.broken is not None
    assert explanation.broken[1] == "Gemm"
    assert {point.value for point in explanation.points} >= {"relu"}
    assert "first node with which the graph does not run is " in explanation.sentence()


def test_a_channel_of_large_numbers_does_not_hide_the_error_of_another(tmp_path: Path) -> None:
    written = write(Plain(), SIGNATURE, tmp_path / "model.onnx")  # one hidden unit has the bias -1e4

    def drift(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == "model.1.weight")
        array = numpy_helper.to_array(tensor).copy()
        array += 1e-7
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    edit_file(tmp_path / "model.onnx", drift)
    explanation = explain(tmp_path / "model.onnx", written.program, draw(SIGNATURE, 8, np.random.default_rng(1)))
    assert explanation.first is not None
    assert explanation.first.ratio < 3
    assert "aten.linear in model.1" in explanation.sentence()
    assert explanation.sentence().endswith("times PyTorch's own in one channel.")


def test_the_nodes_before_the_one_that_does_not_run_are_named_too(tmp_path: Path) -> None:
    written = write(Attention(), SIGNATURE, tmp_path / "model.onnx")
    planted: list[str] = []

    def keep_the_shape(model: onnx.ModelProto) -> None:
        # a Reshape and a Transpose inside an attention, which PyTorch's program has no values for
        transpose = next(node for node in model.graph.node if node.op_type == "Transpose" and "val_" in node.output[0])
        reshape = next(node for node in model.graph.node if node.output[0] == transpose.input[0])
        reshape.op_type = "Identity"
        del reshape.input[1:], reshape.attribute[:]
        planted.append(reshape.name)

    edit_file(tmp_path / "model.onnx", keep_the_shape)
    explanation = explain(tmp_path / "model.onnx", written.program, draw(SIGNATURE, 3, np.random.default_rng(1)))
    assert explanation.broken is not None
    assert planted[0] in explanation.before_broken
    assert planted[0] in explanation.sentence()


def test_another_shape_is_an_error_with_both_shapes(tmp_path: Path) -> None:
    subject = NETWORKS["residual"]
    written = write(subject.network, subject.signature, tmp_path / "model.onnx")

    def stride(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        next(item for item in node.attribute if item.name == "strides").ints[:] = [1, 3]  # three channels side by side

    edit_file(tmp_path / "model.onnx", stride)
    explanation = explain(tmp_path / "model.onnx", written.program, draw(RGB, 2, np.random.default_rng(1)))
    assert explanation.first is not None
    assert explanation.first.mismatch == "it gives shape (2, 8, 12, 10), PyTorch gives (2, 8, 6, 5)"
    assert "aten.conv2d in model.down" in explanation.sentence()


def test_the_worst_samples_are_those_with_the_largest_error() -> None:
    samples = gather_samples(SIGNATURE, None, num_samples=32)
    record = make_reference(make_deployable(Plain(), SIGNATURE), samples, SIGNATURE).record
    images = record.inputs["random"]
    assert isinstance(images, np.ndarray)
    wrong = images[[3, 17]]

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        at = [next(i for i, image in enumerate(images) if np.array_equal(image, one)) for one in batch]
        bad = np.array([any(np.array_equal(one, image) for image in wrong) for one in batch])
        return {name: array[at] + bad[:, None] for name, array in record.eager["random"].items()}

    chosen = samples_to_explain(record, run)
    assert isinstance(chosen, np.ndarray)
    assert {image.tobytes() for image in chosen[:2]} == {image.tobytes() for image in wrong}


def test_a_refusal_names_the_node_and_the_page_shows_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(monkeypatch, nudge("model.head.weight"))
    with pytest.raises(ParityFailure, match=r"The error begins at \S+ \(Gemm\), from aten\.linear in model\.head"):
        publish(ModelToExport(Residual(), RGB), tmp_path / "model", options=ONNX)
    assert "aten.linear in model.head" in (tmp_path / "model.refused.html").read_text()


def test_a_file_that_does_not_open_is_refused_with_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unknown(model: onnx.ModelProto) -> None:
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Rectify"

    plant(monkeypatch, unknown)
    with pytest.raises(ParityFailure, match=r"does not open.*does not run is \S+ \(Rectify\)"):
        publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "model", options=ONNX)


@pytest.mark.parametrize(("version", "op_type", "is_told"), [
    ("1.23.2", "LayerNormalization", True), ("1.30.0", "LayerNormalization", False), ("1.23.2", "Gemm", False),
])  # fmt: skip
def test_an_onnxruntime_that_computes_the_operator_worse_is_named(
    version: str, op_type: str, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", version)
    point = ComparedValue("norm", "node", op_type, (), (), (), error=5e-6, floor=1e-6, rms_ratio=5.0)
    sentence = Explanation((point,)).sentence()
    assert "5.0 times PyTorch's own." in sentence
    assert (f"onnxruntime before 1.30 computes {op_type} with a larger error" in sentence) == is_told


def test_explain_follows_the_error_of_a_sound_export_too(tmp_path: Path) -> None:
    bundle = publish(
        ModelToExport(Residual(), RGB), tmp_path / "model", options=ExportOptions(formats=("onnx",), explain=True)
    )
    explanation = bundle.parity()["artifacts"][0]["explanation"]
    assert explanation["first"] is None
    assert [point["value"] for point in explanation["points"]][-2:] == ["logits", "probabilities"]
    assert "Error along the graph" in (bundle.path / "parity.html").read_text()


def write(network: nn.Module, signature: Signature, path: Path) -> OnnxExport:
    return write_onnx(export_program(make_deployable(network, signature), signature), path, signature, {})


def nudge(name: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array[0, 0] += 1e-3
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def edit_file(path: Path, edit: Edit) -> None:
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())


def plant(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    """Edit model.onnx between its writing and the gate."""

    def write_with_a_fault(program: object, path: Path, *arguments: object) -> object:
        written = write_onnx(program, path, *arguments)  # type: ignore[arg-type]
        edit_file(path, edit)
        return written

    monkeypatch.setattr(onward_export.publish, "write_onnx", write_with_a_fault)
