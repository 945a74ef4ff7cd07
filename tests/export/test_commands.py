"""`onward export` as a user meets it, for models that are not ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import onward as front_door
from onward.bundle import Bundle
from onward.errors import UsageError
from onward.signature import Input
from onward_export.signature_options import apply_interface, tensor_signature

TABLE = """
import torch
from torch import nn

class Tabular(nn.Module):
    def __init__(self, num_inputs, num_classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(num_inputs, 16), nn.Tanh(), nn.Linear(16, num_classes))

    def forward(self, features):
        return {"scores": self.layers(features), "features": features}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """table_TEST.py with its weights beside it."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))
    torch.save({f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}, tmp_path / "weights.pth")
    path = tmp_path / f"table_{tmp_path.name}.py"
    path.write_text(TABLE)
    return path


def test_a_model_of_tensors_goes_the_whole_line(onward, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    result = onward(
        "export", f"{table}:Tabular", "--weights", tmp_path / "weights.pth", "--input", "features:float32:13",
        "--labels", "setosa,versicolor,virginica", "--output", "scores", "--formats", "onnx", "--out", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert Bundle.open(out).signature.inputs == (Input("features", "float32", (13,)),)
    with front_door.load(out) as model:
        assert set(model(np.zeros((2, 13), np.float32)).labels) <= {"setosa", "versicolor", "virginica"}
    shown = onward("inspect", out)
    assert "float32 (batch, 13)" in shown.stdout
    assert onward("verify", out, "--artifact", "onnx").returncode == 0
    refused = onward("predict", out, tmp_path / "image.png")
    assert refused.returncode == 2
    assert "the model takes tensors: features float32 (batch, 13)" in refused.stderr


def test_a_float_input_of_any_size_and_a_later_opset_are_options(onward, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    code = tmp_path / f"pooled_{tmp_path.name}.py"
    code.write_text(
        "from torch import nn\ndef network(num_classes):\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), "
        "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    out = tmp_path / "bundle"
    result = onward(
        "export", f"{code}:network", "--weights", tmp_path / "weights.pth", "--image-size", "8x8x1", "--resize",
        "stretch", "--labels", "a,b,c", "--mean", "0.5", "--std", "0.25", "--input", "tensor",
        "--dynamic-size", "--opset", "20", "--formats", "onnx", "--out", out,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    model = onnx.load(out / "model.onnx")
    assert model.opset_import[0].version == 20
    shape = model.graph.input[0].type.tensor_type.shape
    assert [side.dim_param or side.dim_value for side in shape.dim] == ["batch", 1, "height", "width"]
    np.save(tmp_path / "images.npy", np.zeros((3, 8, 8, 1), np.uint8))
    predicted = onward("predict", out, tmp_path / "images.npy", "--out", tmp_path / "rows.csv")
    assert predicted.returncode == 0, predicted.stderr
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("inputs", "labels", "match"),
    [
        (["features:float33:13"], "a,b", "expected one of float32"),
        (["features"], "a,b", r"'features' is ''; expected one of"),
        (["features:float32:a"], "a,b", r"expected `pixels`, `tensor`, or NAME:DTYPE:SHAPE"),
        (["ids:int64:4:9"], "a,b", r"expected `pixels`"),
        (["pixels", "features:float32:13"], "a,b", "`pixels` or `tensor` for an image, or named tensors"),
        (["features:float32:13"], None, "--labels is missing"),
        (["features:float32:13"], "a", "at least two labels"),
        (["logits:float32:13"], "a,b", "none of"),
    ],
)
def test_an_input_that_cannot_be_read_is_refused(inputs: list[str], labels: str | None, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        tensor_signature(inputs, labels)


def test_inputs_are_read_in_the_order_given() -> None:
    signature = tensor_signature(["ids:int64:any:0..999", "grid:float32:3x4"], "a,b")
    assert signature is not None
    assert signature.inputs == (
        Input("ids", "int64", (None,), (0, 999)),
        Input("grid", "float32", (3, 4)),
    )
    with pytest.raises(UsageError, match="for models that take images"):
        apply_interface(signature, (), dynamic_size=True)
    assert tensor_signature(["pixels"], None) is None
