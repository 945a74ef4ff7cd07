"""Somebody else reads the files: OpenVINO agrees within the gate, and onnx's checker is content."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from onward.bundle import Bundle
from onward.signature import Signature
from onward.tasks.classification import OUTPUTS
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.models import build

from networks import RGB, SIGNATURE, Attention, Plain, Residual  # isort: skip

FASHION = Signature(28, 28, 1, (0.2859,), (0.353,), tuple(map(str, range(10))))
MODELS: Mapping[str, ModelToExport] = {
    "plain": ModelToExport(Plain(), SIGNATURE),
    "residual": ModelToExport(Residual(), RGB),
    "attention": ModelToExport(Attention(), SIGNATURE),
    "classifier": ModelToExport(build("classifier", FASHION), FASHION),
    "cnn": ModelToExport(build("cnn", FASHION), FASHION),
}


@pytest.fixture(scope="module", params=MODELS)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("consumers")
    return publish(MODELS[request.param], folder / "model", options=ExportOptions(formats=("onnx",)))


@pytest.fixture(scope="module")
def openvino() -> Any:
    if "CI" in os.environ:
        import openvino

        return openvino
    return pytest.importorskip("openvino", reason="openvino is not installed: `make test` installs it")


def test_openvino_agrees_within_the_gate(bundle: Bundle, openvino: Any) -> None:
    compiled = openvino.Core().compile_model(
        str(bundle.path / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )

    def run(images: Any) -> dict[str, NDArray[np.float32]]:
        results = compiled([images])
        return {name: np.array(results[compiled.output(name)]) for name in OUTPUTS}

    verdict = bundle.golden().judge("openvino", run)
    assert verdict.passed, verdict.to_json()


def test_the_checker_is_content_and_every_value_has_a_type_and_a_shape(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    typed = {
        value.name for value in (*inferred.graph.value_info, *inferred.graph.output) if value.type.tensor_type.shape.dim
    }
    computed = {name for node in model.graph.node for name in node.output if node.op_type not in ("Shape", "Constant")}
    assert computed - typed == set()


def test_no_note_of_the_exporter_is_left(bundle: Bundle) -> None:
    model = onnx.load(bundle.path / "model.onnx")
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert not model.graph.doc_string
    assert not model.doc_string
    assert [path.name for path in Path(bundle.path).iterdir() if "tmp" in path.name] == []
