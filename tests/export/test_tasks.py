"""A network of another task goes through export, gate and bundle, by two entries in the registries of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onward
from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.signature import Input, Output, TensorSignature
from onward.tasks import TASKS, Task
from onward_training.tasks import NETWORK_TASKS, NetworkTask

SIGNATURE = TensorSignature(
    (Input("x", "float32", (3,)),),
    outputs=(Output("total", "float32", (), "sum"), Output("grid", "float32", (2, 2), "values")),
    task="sums",
)


class SumNetworks(NetworkTask):
    """A network gives values; the model gives their sum, too."""

    def adapt(self, network: nn.Module, final_activation: str = "auto", output: str | None = None) -> nn.Module:
        return network

    def outputs(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.sum((1, 2)), values

    def make_loss(self, options: Any, targets: Any) -> Any:
        raise NotImplementedError

    def validation_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def is_right(self, values: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bundle:
    monkeypatch.setitem(TASKS, "sums", Task)
    monkeypatch.setitem(NETWORK_TASKS, "sums", SumNetworks)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Unflatten(1, (2, 2)))
    return onward.export(network, tmp_path / "sums", signature=SIGNATURE, formats=("onnx", "pt2"))


def test_another_task_is_exported_verified_and_run(bundle: Bundle) -> None:
    assert Bundle.open(bundle.path).signature == SIGNATURE
    assert all(item.passed for item in verify(bundle))
    rows = [row for item in bundle.parity()["artifacts"] for row in item["comparisons"]]
    assert {row["output"] for row in rows} == {"total", "grid"}
    assert {row["top1_agreement"] for row in rows} == {None}
    page = (bundle.path / "parity.html").read_text(encoding="utf-8")
    assert "Agreement by class" not in page
    assert "total" in page
    found = onward.load(bundle.path)(np.ones((5, 3), np.float32))
    assert {name: array.shape for name, array in found.items()} == {"total": (5,), "grid": (5, 2, 2)}  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["grid"].sum((1, 2)), found["total"], rtol=1e-6)  # type: ignore[index]
