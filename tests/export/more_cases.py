"""More modules of the kinds of `cases`, apart from their tests: the process that traces TorchScript imports them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.c, self.h = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def between(self, features: Tensor) -> Tensor:
        return features

    def forward(self, image: Tensor) -> Tensor:
        return self.h(self.between(torch.tanh(self.c(image))).flatten(2).mean(2))


class Pooled(Base):
    """Every corner at which ONNX and PyTorch count windows differently."""

    def between(self, features: Tensor) -> Tensor:
        pooled = [
            F.avg_pool2d(features, 3, 3, 1, ceil_mode=True, count_include_pad=False),
            F.avg_pool2d(features, 5, 4, 2, ceil_mode=True),
            F.avg_pool2d(features, 3, 2, divisor_override=4),
            F.max_pool2d(features, 2, 3, 1, dilation=2, ceil_mode=True),
            F.avg_pool1d(features[:, :, 0], 3, 3, 1, ceil_mode=True),
        ]
        return torch.cat([item.flatten(2) for item in pooled], 2)


class Interpolated(Base):
    """Factors that float32 rounds to another size."""

    def between(self, features: Tensor) -> Tensor:
        modes = ({"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}, {"mode": "bicubic"})
        resized = [F.interpolate(features, scale_factor=1.4, **mode) for mode in modes]  # type: ignore[arg-type]
        return torch.cat([item.flatten(2) for item in resized], 2)


class Attending(Base):
    """Attention of ranks 3 and 5, with masks, one of which lets a query attend to no key."""

    def between(self, features: Tensor) -> Tensor:
        tokens = features[:, :, ::4, ::4].flatten(2).transpose(1, 2)  # (batch, 25, 8)
        windows = tokens.reshape(-1, 5, 5, 2, 4).transpose(2, 3)  # (batch, 5, 2, 5, 4)
        mask = torch.ones(25, 25).tril(-1).bool()
        attended = [
            F.scaled_dot_product_attention(tokens, tokens, tokens, mask),
            F.scaled_dot_product_attention(tokens, tokens, tokens, is_causal=True, scale=0.3),
            F.scaled_dot_product_attention(windows, windows, windows, mask[:5, :5] * 0.5).transpose(2, 3).flatten(3),
        ]
        return torch.cat([item.reshape(-1, 25, 8) for item in attended], 1).transpose(1, 2)


class Constants(Base):
    """Values of Python that weights alone decide."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("is_on", torch.tensor(True))
        self.register_buffer("bounds", torch.tensor([0, 3, 8]))
        self.scale = nn.Parameter(torch.tensor(0.7))

    def between(self, features: Tensor) -> Tensor:
        if self.is_on:
            features = features * float(self.scale.exp())
        parts = [features[:, low:high].tanh() for low, high in zip(self.bounds[:-1], self.bounds[1:], strict=True)]
        return torch.cat(parts, 1) * self.bounds.tolist()[1]


class Overwritten(Base):
    """A constant that is overwritten by what depends on the input is none."""

    def between(self, features: Tensor) -> Tensor:
        value = torch.zeros(2)
        view = value[:1]
        view += features.abs().max()
        return features * value[0].item()


class Holding(Base):
    """A log, a lock in a list, and a generator: none of them can be copied or pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.locks, self.generator = io.TextIOWrapper(io.BytesIO()), [threading.Lock()], (i for i in "ab")

    def between(self, features: Tensor) -> Tensor:
        with self.locks[0]:
            return features * 2


class Logging(Holding):
    def between(self, features: Tensor) -> Tensor:
        self.log.write("called")
        return features


class FixesTheBatch(Base):
    def between(self, features: Tensor) -> Tensor:
        return torch.stack([item * 2 for item in features])


class Choosing(Base):
    def between(self, features: Tensor) -> Tensor:
        while bool(features.abs().max() > 1e9):
            features = features / 2
        return features


def scripted() -> nn.Module:
    return torch.jit.script(Choosing())


def wrapped() -> nn.Module:
    network = Base()
    network.c, network.h = torch.compile(network.c, backend="eager"), nn.DataParallel(network.h)  # type: ignore[assignment]
    network.compile(backend="eager")
    return network


class Branching(Base):
    """A choice between branches that both are in the file."""

    def between(self, features: Tensor) -> Tensor:
        is_large = (features.abs() > 1e6).any()
        return torch.cond(is_large, lambda x: x / 2, lambda x: x.float().sin(), (features,))  # type: ignore[no-any-return]


class Prepared(Base):
    """Constants that the exporter computes: a scaled one, beside inputs that determine each other, and a window."""

    def between(self, features: Tensor) -> Tensor:
        tokens = features[:, :, ::4, ::4].flatten(2)
        scaled = torch.baddbmm(torch.ones(8, 8), tokens, tokens.transpose(1, 2), beta=0.5)
        spectrum = torch.stft(features.flatten(2)[:, 0], 32, 16, window=torch.hann_window(32), return_complex=True)
        return torch.cat([scaled, torch.view_as_real(spectrum).flatten(1)[:, :64].reshape(-1, 8, 8)], 2)


class Unregistered(Base):
    """A tensor and a layer of which PyTorch does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.layers = torch.linspace(0, 1, 20, requires_grad=True), [nn.Conv2d(8, 8, 1)]

    def between(self, features: Tensor) -> Tensor:
        return self.layers[0](features * self.scale)  # type: ignore[no-any-return]


class Sparse(Base):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.eye(8).to_sparse())


class Renormalised(Base):
    """An embedding that changes its weights when it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 8, max_norm=1.0)

    def between(self, features: Tensor) -> Tensor:
        return features + self.embedding(features.mean((2, 3)).argmax(1))[:, :, None, None]


class Between(Base):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.between = function  # type: ignore[method-assign]
