"""Networks of odd kinds, apart from their tests: the process that traces TorchScript imports this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import Plain  # isort: skip


class InDictionary(Plain):
    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"features": image.flatten(1), "scores": super().forward(image)}


class InTuple(Plain):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image.flatten(1), super().forward(image)


@dataclass
class Output:
    features: Tensor
    logits: Tensor


class InDataclass(Plain):
    def forward(self, image: Tensor) -> Output:
        return Output(image.flatten(1), super().forward(image))


class Branch(nn.Module):
    """Halves what is too large, however often it takes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden = nn.Linear(64, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, image: Tensor) -> Tensor:
        features = self.hidden(image.flatten(1))
        while bool(features.abs().max() > 1e9):
            features = features / 2
        return self.head(F.relu(features))


class Bessel(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return self[3](torch.special.bessel_j0(self[1](self[0](image))))


class CountingBuffer(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(image)


class CountingAttribute(Plain):
    calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(image) * self.calls


class AnySize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(F.relu(self.convolution(image)).mean((2, 3)))


class PooledUp(nn.Module):
    """An adaptive pooling to more places than there are: the exporter takes it apart, with constants of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(3), nn.AdaptiveAvgPool2d(7))
        self.head = nn.Linear(196, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).flatten(1))


class Picking(Plain):
    """Positions are computed as if they were normalised: a scale and a shift of what is no image."""

    def forward(self, image: Tensor) -> Tensor:
        scores = super().forward(image).repeat(1, 4)
        return scores[:, torch.arange(1, 5) * 3 + 1]


class Tabular(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(13, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(100, 8)
        self.head = nn.Linear(21, 3)

    def forward(self, features: Tensor, ids: Tensor) -> Tensor:
        return self.head(torch.cat([features, self.embedding(ids).mean(1)], 1))


def weight_norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 4)))


def hooked(hook: Any) -> nn.Module:
    network = Plain()
    network[1].register_forward_hook(hook)
    return network


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
