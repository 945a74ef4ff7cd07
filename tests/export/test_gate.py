"""Rules 3 to 5 and 7: faults planted in the files that are about to ship, and the gate that stays closed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from networks import RGB, SIGNATURE, Attention, OnlyFloat32, Plain, Residual
from onnx import numpy_helper
from torch import nn

import onward_export.publish
from onward.errors import ParityFailure
from onward_export.model_to_export import ModelToExport
from onward_export.options import FORMATS, ExportOptions
from onward_export.publish import publish

Edit = Callable[[onnx.ModelProto], None]
PLAIN = ModelToExport(Plain(), SIGNATURE)


def plant(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    """Edit model.onnx between its writing and the gate."""
    write = onward_export.publish.write_onnx

    def write_with_a_fault(program: object, path: Path, *arguments: object) -> object:
        passes = write(program, path, *arguments)
        model = onnx.load(path)
        edit(model)
        onnx.save(model, path)
        return passes

    monkeypatch.setattr(onward_export.publish, "write_onnx", write_with_a_fault)


def nudge(name: str, index: tuple[int, ...], by: float = 1e-3) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if item.name == name)
        array = numpy_helper.to_array(tensor).copy()
        array[index] += by
        tensor.CopyFrom(numpy_helper.from_array(array, name))

    return edit


def softmax_over_the_batch(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Softmax")
    node.attribute[0].i = 0


def drop_a_relu(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Identity"


def fix_the_batch_at_one(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def assert_refused(source: ModelToExport, out: Path, match: str, formats: tuple[str, ...] = ("onnx",)) -> None:
    with pytest.raises(ParityFailure, match=match):
        publish(source, out, options=ExportOptions(formats=formats))
    assert not out.exists()
    assert [path for path in out.parent.iterdir() if path.name.endswith(".staged")] == []


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (nudge("model.3.weight", (1, 5)), r"1 of 64 values differ.*error of logits"),
        (nudge("model.3.weight", (1, 0)), r"model\.3\.weight: 1 of 64 values differ"),
        (nudge("model.1.bias", (3,)), r"model\.1\.bias: "),
        (softmax_over_the_batch, r"error of probabilities on random samples"),
        (drop_a_relu, r"error of logits"),
        (fix_the_batch_at_one, r"does not run on batches of every size"),
    ],
    ids=["a live weight", "a dead weight", "the folded mean", "the softmax's axis", "a ReLU", "the batch"],
)
def test_a_fault_in_the_onnx_file_closes_the_gate(
    edit: Edit, match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plant(monkeypatch, edit)
    assert_refused(PLAIN, tmp_path / "plain", match)


def test_a_dead_weight_is_seen_by_the_weights_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(monkeypatch, nudge("model.3.weight", (1, 0)))
    with pytest.raises(ParityFailure) as caught:
        publish(PLAIN, tmp_path / "plain", options=ExportOptions(formats=("onnx",)))
    assert "error of" not in str(caught.value)


def test_the_page_beside_a_refused_bundle_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plant(monkeypatch, nudge("model.3.weight", (1, 5)))
    assert_refused(PLAIN, tmp_path / "plain", r"plain\.refused\.html")
    assert "Failed: " in (tmp_path / "plain.refused.html").read_text()


@pytest.mark.parametrize(
    ("format", "writer"),
    [("pt2", "write_pt2"), ("torchscript", "torchscript_in_background")],
    ids=["pt2", "torchscript"],
)
def test_another_model_s_file_closes_the_gate(
    format: str, writer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = Plain()
    with torch.no_grad():
        other[3].weight[1, 0] += 1e-3  # behind the unit that never fires
    publish(ModelToExport(other, SIGNATURE), tmp_path / "other", options=ExportOptions(formats=(format,)))
    data = (tmp_path / "other" / FORMATS[format]).read_bytes()
    write = getattr(onward_export.publish, writer)

    def write_and_replace(*arguments: object, **options: object) -> object:
        path = next(argument for argument in arguments if isinstance(argument, Path))
        result = write(*arguments, **options)
        if writer == "write_pt2":
            path.write_bytes(data)
            return result
        return _Replacing(result, path, data)

    monkeypatch.setattr(onward_export.publish, writer, write_and_replace)
    assert_refused(PLAIN, tmp_path / "plain", r"model\.3\.weight: 1 of 64 values differ", (format,))


class _Replacing:
    def __init__(self, inner: object, path: Path, data: bytes) -> None:
        self.inner, self.path, self.data = inner, path, data

    def __enter__(self) -> None:
        self.inner.__enter__()  # type: ignore[attr-defined]

    def __exit__(self, *error: object) -> None:
        self.inner.__exit__(*error)  # type: ignore[attr-defined]
        self.path.write_bytes(self.data)


def test_an_artifact_with_dropout_left_on_closes_the_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4))
    export_program = onward_export.publish.export_program

    def export_in_training_mode(deployable: nn.Module, signature: object) -> object:
        deployable.train()
        return export_program(deployable, signature)

    monkeypatch.setattr(onward_export.publish, "export_program", export_in_training_mode)
    assert_refused(ModelToExport(network, SIGNATURE), tmp_path / "dropout", r"error of logits", ("pt2",))


def test_a_wrong_mean_in_the_module_that_is_exported_closes_the_gate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    export_program = onward_export.publish.export_program

    def export_with_a_wrong_mean(deployable: nn.Module, signature: object) -> object:
        wrong = copy.deepcopy(deployable)
        wrong.normalize.shift.add_(0.1)
        return export_program(wrong, signature)

    monkeypatch.setattr(onward_export.publish, "export_program", export_with_a_wrong_mean)
    assert_refused(PLAIN, tmp_path / "plain", r"(normalize\.shift|model\.1\.bias): .*error of logits", ("onnx",))


@pytest.mark.parametrize(
    "source",
    [PLAIN, ModelToExport(Residual(), RGB), ModelToExport(Attention(), SIGNATURE)],
    ids=["plain", "residual", "attention"],
)
def test_a_sound_model_passes_in_every_format(source: ModelToExport, tmp_path: Path) -> None:
    bundle = publish(source, tmp_path / "sound")
    report = bundle.parity()
    assert report["passed"]
    assert report["not_published"] == []
    for artifact in report["artifacts"]:
        assert artifact["weights"]["passed"]
        for row in artifact["comparisons"]:
            assert row["top1_agreement"] == 1.0 or row["kind"] == "constant"


def test_batch_norm_that_is_folded_into_a_convolution_is_stated(tmp_path: Path) -> None:
    bundle = publish(ModelToExport(Residual(), RGB), tmp_path / "residual", options=ExportOptions(formats=("onnx",)))
    folds = bundle.parity()["artifacts"][0]["weights"]["folds"]
    assert [fold for fold in folds if "stem.0.weight" in fold and "bias" not in fold]
    assert sorted(folds) == [
        "batch norm into model.block.0.weight",
        "batch norm into the bias beside model.block.0.weight",
        "batch norm into the bias beside model.stem.0.weight",
        "layout of the pixels into the scale of the normalisation into its shift",
        "scale of the normalisation and layout of the pixels and batch norm into model.stem.0.weight",
    ]


def test_a_changed_weight_under_a_fold_closes_the_gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def edit(model: onnx.ModelProto) -> None:
        tensor = next(item for item in model.graph.initializer if len(item.dims) == 4)
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[0] = np.nextafter(array.reshape(-1)[0], 10) + 1e-5
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    plant(monkeypatch, edit)
    assert_refused(ModelToExport(Residual(), RGB), tmp_path / "residual", r"model\.stem\.0\.weight: most of its values")


def test_a_model_that_cannot_run_in_float64_ships_by_torch_s_tolerance_and_says_so(tmp_path: Path) -> None:
    bundle = publish(
        ModelToExport(OnlyFloat32(), SIGNATURE), tmp_path / "narrow", options=ExportOptions(formats=("onnx",))
    )
    rows = bundle.parity()["artifacts"][0]["comparisons"]
    assert not any(row["noise"]["is_measured"] for row in rows)
    assert "No reference in float64" in (bundle.path / "parity.html").read_text()
