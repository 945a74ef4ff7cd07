"""Small networks, sound and faulty, that the tests of this floor share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onward.signature import Signature

SIGNATURE = Signature(8, 8, 1, (0.3,), (0.4,), ("zero", "one", "two", "three"))
RGB = Signature(12, 10, 3, (0.48, 0.45, 0.4), (0.23, 0.22, 0.22), ("zero", "one", "two", "three"))


class Plain(nn.Sequential):
    """Flatten, linear, ReLU, linear. Its first hidden unit never fires."""

    def __init__(self, num_inputs: int = 64) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Flatten(), nn.Linear(num_inputs, 16), nn.ReLU(), nn.Linear(16, 4))
        with torch.no_grad():
            self[1].bias[0] = -1e4


class Residual(nn.Module):
    """Convolutions with batch norm around a skip connection, on RGB."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)
        for norm in (self.stem[1], self.block[1]):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> Tensor:
        features = self.stem(image)
        return self.head(F.relu(features + self.block(features)).mean((2, 3)))


class Attention(nn.Module):
    """Rows of the image as tokens, one self-attention layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(64, 4)

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.flatten(1, 2)
        attended, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.head(self.norm(tokens + attended).flatten(1))


class StubbornDropout(nn.Dropout):
    """Stays in training mode whatever it is told."""

    def train(self, mode: bool = True) -> StubbornDropout:
        super().train(True)
        return self


class WithModule(Plain):
    """Plain, with a module between its hidden layer and its head."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.insert(3, module)


class LiveFunctionalDropout(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return self[3](F.dropout(self[2](self[1](self[0](image)))))


class AutocastInside(Plain):
    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(image).float()


class HalfInside(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.half().to(image.dtype))


class OnlyFloat32(Plain):
    """Cannot run in float64."""

    def forward(self, image: Tensor) -> Tensor:
        if image.dtype != torch.float32:
            raise TypeError("this network takes float32")
        return super().forward(image)


class ZeroHead(Plain):
    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self[3].weight)
        nn.init.zeros_(self[3].bias)


class NanWeight(Plain):
    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self[3].weight[1, 2] = float("nan")


class FixedBatch(Plain):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.reshape(2, 1, 8, 8))


class Cancelling(Plain):
    """Adds and takes away a number so large that float32 has nothing left of the difference."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) + 1e6 - 1e6


class DividesByZero(Plain):
    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return logits / (logits - logits)
