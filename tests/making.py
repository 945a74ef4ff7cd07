"""Makes the checkpoint and the bundles of `tests/bundles.py`, with PyTorch.

`python -m tests.making` makes all of them, for a run of tests/runtime where PyTorch is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import onward
from onward.fidelity import Budget
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.data import Split, load
from onward_training.data.idx_files import find_folder
from onward_training.loop import train
from onward_training.options import TrainOptions
from tests.bundles import DIGITS, DIGITS_INT8, HOSTILE_NODE, NAMES, SIGNATURES, UNDEFINED, path_of
from tests.fast_exports import fast_exports

__all__ = ["make"]

ONLY_ONNX = ExportOptions(formats=("onnx",))


class ColourNetwork(nn.Module):
    """Takes three channels and any size."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, num_features, 3, padding=1)
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


class FiveInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(100, 8)
        self.head = nn.Linear(28, 3)

    def forward(self, features: Tensor, ids: Tensor, mask: Tensor, age: Tensor, weite: Tensor) -> Tensor:
        mean, years, width = mask.to(features.dtype).mean(2), age[:, None].to(features.dtype), weite.to(features.dtype)
        parts = [features, self.embedding(ids).mean(1), mean, years, width]
        return self.head(torch.cat(parts, 1))


class Overwriting(nn.Module):
    """Writes into what it is given, as a first `ReLU(inplace=True)` does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, 3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.head(torch.cat([first.relu_(), second], 1))


class Undefined(nn.Module):
    """Gives 0/0 for an image whose first pixels are `tests.bundles.UNDEFINED`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(64, 2)

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.flatten(1)
        distance = ((pixels[:, :3] * 255).round() - torch.tensor(UNDEFINED)).abs().sum(1, keepdim=True)
        return self.head(pixels) * (distance / distance)


def train_digits(path: Path) -> None:
    """A small CNN with batch norm and dropout, trained to over 90 %."""
    arguments = {"widths": [8, 16], "num_hidden": 32}
    train(load("digits"), TrainOptions(model="cnn", arguments=arguments, epochs=8, learning_rate=1e-2)).save(path)


def export_digits(path: Path) -> None:
    publish(ModelToExport.from_checkpoint(Checkpoint.load(path_of("digits.pt"))), path)


def quantize_digits(path: Path) -> None:
    # one or two of 646 held-out digits are lost, which half a point does not allow
    onward.quantize(path_of(DIGITS), "digits", out=path, budget=Budget(max_loss=0.03))


def export_hostile_labels(path: Path) -> None:
    checkpoint = Checkpoint.load(path_of("digits.pt"))
    labelled = replace(checkpoint, signature=replace(checkpoint.signature, labels=HOSTILE_NODE))
    publish(ModelToExport.from_checkpoint(labelled), path, options=ONLY_ONNX)


def export_fashion(path: Path) -> None:
    """A tiny CNN, trained on 4,000 images of the real Fashion-MNIST."""
    if find_folder("fashion-mnist") is None:
        pytest.skip("Fashion-MNIST is not on this machine: apt-get install dataset-fashion-mnist")
    data = load("fashion-mnist")
    assert isinstance(data.train, Split)
    assert isinstance(data.validation, Split)
    few = replace(data, train=data.train.take(np.arange(4000)), validation=data.validation.take(np.arange(500)))
    arguments = {"widths": [4, 8], "num_hidden": 16}
    checkpoint = train(few, TrainOptions(model="cnn", arguments=arguments, epochs=3, learning_rate=1e-2))
    publish(ModelToExport.from_checkpoint(checkpoint), path, options=ONLY_ONNX)


def exporter(network: Callable[[], nn.Module], **options: Any) -> Callable[[Path], None]:
    def export(path: Path) -> None:
        onward.export(network(), path, signature=SIGNATURES[path.name], **options)

    return export


ONNX: dict[str, Any] = {"formats": ("onnx",)}
APART: dict[str, Any] = {"external_data_above_bytes": 0}  # the weights lie in a file of their own
MAKERS: dict[str, Callable[[Path], None]] = {
    "digits.pt": train_digits,
    DIGITS: export_digits,
    DIGITS_INT8: quantize_digits,
    "hostile-labels": export_hostile_labels,
    "fashion": export_fashion,
    "colour": exporter(lambda: ColourNetwork(8, 10), **ONNX, **APART),
    "colour-any-size": exporter(lambda: ColourNetwork(8, 10), **ONNX),
    "planes": exporter(lambda: ColourNetwork(4, 2), **ONNX),
    "any-size": exporter(lambda: ColourNetwork(4, 2), **ONNX, **APART),
    "five-inputs": exporter(FiveInputs, **ONNX),
    "two-inputs": exporter(Overwriting, **APART),
    "undefined": exporter(Undefined, **ONNX),
    "licensed": exporter(lambda: _seeded(nn.Linear, 13, 2), **ONNX, licence="CC0-1.0"),
}


def _seeded(network: Callable[..., nn.Module], *arguments: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(network(*arguments))


def make(name: str, path: Path) -> None:
    """Write the bundle or checkpoint of this name to `path`, whose last part is the name."""
    with fast_exports():
        MAKERS[name](path)


if __name__ == "__main__":
    assert set(MAKERS) == set(NAMES)
    with fast_exports():
        for name in NAMES:
            try:
                path_of(name)
            except pytest.skip.Exception as reason:
                print(f"{name}: {reason}", file=sys.stderr)
