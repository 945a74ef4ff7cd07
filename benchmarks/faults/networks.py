"""Networks: 25 small networks with random weights, of the kinds that people export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.zoo.alive import make_alive
from onward.signature import AnySignature, Signature, TensorSignature
from onward.tensors import Input

__all__ = ["NETWORKS", "NetworkUnderTest", "build"]

LABELS = tuple(f"class {index}" for index in range(10))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The bias of a unit that never fires.
DEAD = -1e4


@dataclass(frozen=True)
class NetworkUnderTest:
    """A network in which faults are planted.

    Args:
        name: Its name.
        network: The module.
        signature: Its inputs and outputs.
    """

    name: str
    network: nn.Module
    signature: AnySignature


def build(name: str) -> NetworkUnderTest:
    """Build one of `NETWORKS`."""
    torch.manual_seed(0)
    network, signature = NETWORKS[name]()
    is_real = not any(parameter.is_complex() for parameter in network.parameters())  # make_alive compares them
    if isinstance(signature, Signature) and is_real:
        make_alive(network, signature)
    return NetworkUnderTest(name, network.eval(), signature)


def _rgb(side: int, channels: int = 3) -> Signature:
    return Signature(side, side, channels, MEAN[:channels], STD[:channels], LABELS)


class _Plain(nn.Sequential):
    """Convolutions and linear layers, with a dead unit."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
            *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, len(LABELS))),
        )
        _kill_a_unit(self[0], self[3], self[7])


class _Tutorial(nn.Module):
    """The network of PyTorch's 60-minute tutorial, with a dead unit in each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.pool = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2, 2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, len(LABELS))
        _kill_a_unit(self.fc1, self.fc2)

    def forward(self, image: Tensor) -> Any:
        features = self.pool(F.relu(self.conv2(self.pool(F.relu(self.conv1(image))))))
        hidden = F.relu(self.fc2(F.relu(self.fc1(features.view(-1, 400)))))
        return self.fc3(hidden)


class _Norms(nn.Module):
    """GroupNorm and InstanceNorm around a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.GroupNorm(4, 16), nn.SiLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.InstanceNorm2d(16, affine=True), nn.ReLU())
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        features = self.stem(image)
        return self.head((features + self.block(features)).mean((2, 3)))


class _Recurrent(nn.Module):
    """Rows of the image, read in both directions."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.recurrent = kind(96, 16, batch_first=True, bidirectional=True)
        self.hidden = nn.Linear(32, 32)
        self.head = nn.Linear(32, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        rows = image.permute(0, 2, 1, 3).flatten(2)
        return self.head(torch.tanh(self.hidden(self.recurrent(rows)[0].mean(1))))


class _StandardisedConv2d(nn.Conv2d):
    def forward(self, image: Tensor) -> Any:
        weight = self.weight
        deviation, mean = torch.std_mean(weight, (1, 2, 3), keepdim=True, correction=0)
        return F.conv2d(image, (weight - mean) / (deviation + 1e-5), self.bias, self.stride, self.padding)


class _Standardised(nn.Module):
    """Weight standardisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = _StandardisedConv2d(3, 12, 3, 2), _StandardisedConv2d(12, 12, 3)
        self.norm, self.head = nn.GroupNorm(3, 12), nn.Linear(12, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        return self.head(F.relu(self.norm(self.second(F.relu(self.first(image))))).mean((2, 3)))


class _PadFirst(nn.Module):
    """A cast to float32 and an asymmetric padding before the first convolution, and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, 2, bias=False), nn.BatchNorm2d(16)
        self.second, self.head = nn.Conv2d(16, 16, 3, dilation=2), nn.Linear(16, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        features = F.relu(self.norm(self.first(F.pad(image.float(), (0, 1, 0, 1)))))
        return self.head(F.relu(self.second(F.pad(features, (2, 2, 2, 2)))).mean((2, 3)))


class _Resizing(nn.Module):
    """nn.Upsample in both modes, joined with a skip connection as in a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        self.near = nn.Upsample(scale_factor=2, mode="nearest")
        self.cubic = nn.Upsample(size=(16, 16), mode="bicubic", align_corners=True)
        self.join, self.head = nn.Conv2d(32, 16, 3, 2), nn.Linear(16, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        wide = F.relu(self.down(image))
        deep = torch.tanh(self.deep(wide))
        joined = torch.cat([wide, self.smooth(deep), self.near(deep), self.cubic(deep)], 1)
        return self.head(F.relu(self.join(joined)).mean((2, 3)))


class _Bilinear(nn.Module):
    """nn.Bilinear of two poolings."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.bilinear = nn.Conv2d(3, 8, 3, 2), nn.Bilinear(8, 8, 16)
        self.head = nn.Linear(16, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        features = self.features(image)
        return self.head(self.bilinear(torch.tanh(features).mean((2, 3)), torch.relu(features).mean((2, 3))))


class _SpatialTransformer(nn.Module):
    """affine_grid and grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.place = nn.Conv2d(3, 8, 5, stride=2), nn.Linear(8, 6)
        self.read, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, len(LABELS))
        self.register_buffer("identity", torch.eye(2, 3))

    def forward(self, image: Tensor) -> Any:
        theta = self.place(torch.tanh(self.look(image)).mean((2, 3))).view(-1, 2, 3) * 0.3 + self.identity
        grid = F.affine_grid(theta, list(image.size()), align_corners=False)
        seen = F.grid_sample(image, grid, align_corners=False)
        return self.head(torch.tanh(self.read(seen)).mean((2, 3)))


class _MaskedAttention(nn.Module):
    """Scaled dot-product attention on (batch, tokens, channels) with a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.qkv, self.out = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 48), nn.Linear(16, 16)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, len(LABELS))
        self.mask: Tensor
        self.register_buffer("mask", torch.ones(16, 16).tril().bool())

    def forward(self, image: Tensor) -> Any:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, -1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
        return self.head(self.norm(tokens + self.out(attended)).mean(1))


class _Complex(nn.Module):
    """A filter of complex numbers in the frequency domain, as in GFNet."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, len(LABELS))
        self.filter = nn.Parameter(torch.randn(8, 16, 9, dtype=torch.cfloat) * 0.5)

    def forward(self, image: Tensor) -> Any:
        spectrum = torch.fft.rfft2(self.features(image), norm="ortho") * self.filter
        return self.head(torch.tanh(torch.fft.irfft2(spectrum, s=(16, 16), norm="ortho")).mean((2, 3)))


class _Video(nn.Module):
    """Conv3d through a tensor input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv3d(2, 8, 3, 2, 1), nn.BatchNorm3d(8)
        self.second, self.head = nn.Conv3d(8, 8, 3, 1, 1), nn.Linear(8, len(LABELS))
        assert self.norm.running_var is not None
        nn.init.uniform_(self.norm.running_var, 0.3, 1)

    def forward(self, video: Tensor) -> Any:
        return self.head(F.relu(self.second(F.relu(self.norm(self.first(video))))).mean((2, 3, 4)))


class _Words(nn.Module):
    """Embedding, with the mean over the words, and a second embedding for the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.hidden, self.norm, self.head = nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, len(LABELS))
        self.register_buffer("order", torch.arange(12))

    def forward(self, words: Tensor) -> Any:
        tokens = self.words(words) + self.places(self.order)
        return self.head(self.norm(F.gelu(self.hidden(tokens))).mean(1))


class _Separable(nn.Module):
    """Depthwise and transposed convolutions with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12)
        self.depthwise, self.norm2 = nn.Conv2d(12, 12, 3, 2, 1, groups=12), nn.BatchNorm2d(12)
        self.up, self.norm3 = nn.ConvTranspose2d(12, 12, 3, 2, 1, 1), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, len(LABELS))

    def forward(self, image: Tensor) -> Any:
        wide = F.relu(self.norm1(self.first(image)))
        deep = F.hardswish(self.norm2(self.depthwise(wide)))
        return self.head(F.leaky_relu(wide + self.norm3(self.up(deep))).mean((2, 3)))


class _Branches(nn.Module):
    """Splits, gathers and joins channels, as ShuffleNet does, with several activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(3, 16, 4, 4), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.head = nn.Linear(16, len(LABELS))
        self.order: Tensor
        self.register_buffer("order", torch.randperm(16))

    def forward(self, image: Tensor) -> Any:
        one, other = self.stem(image).chunk(2, 1)
        joined = torch.cat([F.gelu(self.left(one)), F.gelu(self.right(other), approximate="tanh")], 1)
        return self.head(F.softplus(joined[:, self.order]).mean((2, 3)))


def _kill_a_unit(*layers: nn.Module) -> None:
    with torch.no_grad():
        for layer in layers:
            layer.bias[1] = DEAD  # type: ignore[operator]


def _swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4), num_classes=len(LABELS)
    )


def _timm(name: str, side: int, **arguments: Any) -> Callable[[], tuple[nn.Module, AnySignature]]:
    return lambda: (timm.create_model(name, num_classes=len(LABELS), **arguments), _rgb(side))


_CLASSES = {"num_classes": len(LABELS)}
#: Name -> gives the network, before its weights are made alive, and its signature.
NETWORKS: Mapping[str, Callable[[], tuple[nn.Module, AnySignature]]] = {
    "plain": lambda: (_Plain(), _rgb(64)),
    "resnet18": lambda: (torchvision.models.resnet18(**_CLASSES), _rgb(32)),
    "mobilenet_v3_small": lambda: (torchvision.models.mobilenet_v3_small(**_CLASSES), _rgb(64)),
    "vision transformer": lambda: (
        torchvision.models.VisionTransformer(64, 16, 3, 4, 64, 128, **_CLASSES),
        _rgb(64),
    ),
    "60-minute tutorial": lambda: (_Tutorial(), _rgb(32)),
    "GroupNorm and InstanceNorm": lambda: (_Norms(), _rgb(32)),
    "LSTM": lambda: (_Recurrent(nn.LSTM), _rgb(32)),
    "GRU": lambda: (_Recurrent(nn.GRU), _rgb(32)),
    "weight standardisation": lambda: (_Standardised(), _rgb(32)),
    "pad and cast first": lambda: (_PadFirst(), _rgb(32)),
    "upsampling": lambda: (_Resizing(), _rgb(32)),
    "bilinear": lambda: (_Bilinear(), _rgb(32)),
    "spatial transformer": lambda: (_SpatialTransformer(), _rgb(32)),
    "masked attention": lambda: (_MaskedAttention(), _rgb(32)),
    "complex parameter": lambda: (_Complex(), _rgb(32)),
    "Conv3d": lambda: (_Video(), TensorSignature((Input("video", "float32", (2, 6, 16, 16)),), LABELS)),
    "embedding": lambda: (_Words(), TensorSignature((Input("words", "int64", (12,), (0, 49)),), LABELS)),
    "depthwise and transposed": lambda: (_Separable(), _rgb(32)),
    "branches": lambda: (_Branches(), _rgb(32)),
    "test_convnext": _timm("test_convnext", 32),
    "swin": lambda: (_swin(), _rgb(32)),
    "test_nfnet": _timm("test_nfnet", 32),
    "tf_efficientnet_lite0": _timm("tf_efficientnet_lite0", 32),
    "levit_128s": _timm("levit_128s", 64, img_size=64),
    "test_efficientnet_gn": _timm("test_efficientnet_gn", 32),
}
