"""Casts in `forward`: one to float32 changes nothing, one to a narrower float is judged by its effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onward.errors import NotExportable
from onward.signature import Signature, TensorSignature
from onward.tasks.classification import LOGITS
from onward.tensors import Input
from onward_export.deployable import make_deployable
from onward_export.reference import Reference, make_reference
from onward_export.reference.samples import gather_samples

from networks import RGB, SIGNATURE, Plain  # isort: skip

#: An autocast region for CUDA says so on a machine without it; `make_deployable` runs the network, too.
pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available.*:UserWarning")

LABELS = SIGNATURE.labels
GREY = Signature(32, 32, 1, (0.3,), (0.4,), LABELS)
#: Two orders of summation in float64.
ROUNDING_FLOAT64 = 1e-12


def reference_of(network: nn.Module, signature: Signature | TensorSignature = RGB) -> Reference:
    torch.manual_seed(0)
    samples = gather_samples(signature, None, num_samples=8)
    return make_reference(make_deployable(network, signature), samples, signature)


class Convolution(nn.Module):
    """One convolution and a head; subclasses say what is between, and what comes first."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.between(torch.tanh(self.convolution(self.first(image)))).mean((2, 3)))

    def first(self, image: Tensor) -> Tensor:
        return image

    def between(self, features: Tensor) -> Tensor:
        return features


class FloatFirst(Convolution):
    def first(self, image: Tensor) -> Tensor:
        return image.float()


class DtypeFirst(Convolution):
    def first(self, image: Tensor) -> Tensor:
        return image.to(torch.float32).to(device="cpu", dtype=torch.float32).to(image.device)


class TypeAsWeight(Convolution):
    def first(self, image: Tensor) -> Tensor:
        return image.type_as(self.convolution.weight).to(self.head.bias).type(torch.FloatTensor)


class AsConstant(Convolution):
    """A tensor that is neither a parameter nor a buffer stays float32 when the module is converted."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = torch.full((8, 1, 1), 0.1)
        self.scale = np.full((8, 1, 1), 0.3, np.float32)

    def between(self, features: Tensor) -> Tensor:
        features = features.to(self.shift) * torch.tensor([0.7], dtype=torch.float32) + torch.from_numpy(self.scale)
        total = torch.zeros(features.shape, dtype=torch.float32)
        total += features
        total[:, :2] = features[:, :2] * self.shift[:2]
        return total.mul_(self.shift).add_(torch.as_tensor(self.scale))


class WrittenConstant(Convolution):
    """What is written into a constant of numpy's is read again."""

    def between(self, features: Tensor) -> Tensor:
        total = torch.from_numpy(np.zeros((1, 8, 1, 1), np.float32))
        total[0, 0] = 1 / 3
        total.add_(1 / 7)
        return features * total


class Masks(Convolution):
    def between(self, features: Tensor) -> Tensor:
        mask = (features > 0).float() + F.one_hot(torch.arange(8) % 3, 5).float().sum(1)[:, None, None]
        return features * mask + torch.arange(8, dtype=torch.float32)[:, None, None].sin()


class SoftmaxInFloat32(Convolution):
    def between(self, features: Tensor) -> Tensor:
        return F.softmax(features, dim=1, dtype=torch.float32).to(features.dtype) * 5


class RMSNorm(Convolution):
    """As Llama has it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8)[:, None, None])

    def between(self, features: Tensor) -> Tensor:
        wide = features.to(torch.float32)
        return self.scale * (wide * torch.rsqrt(wide.pow(2).mean(1, keepdim=True) + 1e-6)).to(features.dtype)


class LayerNorm2d(Convolution):
    """As ConvNeXt has it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def between(self, features: Tensor) -> Tensor:
        moved = features.permute(0, 2, 3, 1)
        return F.layer_norm(moved.float(), (8,), self.norm.weight.float(), self.norm.bias).permute(0, 3, 1, 2)


class AutocastForCuda(Convolution):
    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cuda"):
            return super().forward(image)


class ComplexParameter(Convolution):
    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(8, 10, 5, dtype=torch.cfloat))

    def between(self, features: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(features).to(torch.complex64) * self.filter, s=(10, 8)) * 10


class HalfMask(Convolution):
    """Ones and zeros are the same in every float."""

    def between(self, features: Tensor) -> Tensor:
        return features * (features > 0).half()


@pytest.mark.parametrize(
    "network",
    [
        *(FloatFirst, DtypeFirst, TypeAsWeight, AsConstant, WrittenConstant, Masks, SoftmaxInFloat32, RMSNorm),
        *(LayerNorm2d, AutocastForCuda, ComplexParameter, HalfMask),
    ],
)
def test_a_cast_that_changes_nothing_in_float32_is_left_out_of_the_reference(network: type[Convolution]) -> None:
    record = reference_of(network()).record
    for noise in record.noise["random"].values():
        assert noise.is_measured
    errors = np.abs(record.eager["random"][LOGITS] - record.reference["random"][LOGITS])
    assert 0 < errors.max() < 1e-5


@pytest.mark.parametrize("network", [FloatFirst, DtypeFirst, TypeAsWeight, AutocastForCuda])
def test_the_reference_is_that_of_the_same_network_without_the_cast(network: type[Convolution]) -> None:
    given, expected = reference_of(network()).record, reference_of(Convolution()).record
    for kind, outputs in expected.reference.items():
        np.testing.assert_allclose(given.reference[kind][LOGITS], outputs[LOGITS], rtol=0, atol=ROUNDING_FLOAT64)


class Half(Convolution):
    def between(self, features: Tensor) -> Tensor:
        return features.half().float()


class HalfTensor(Convolution):
    """No argument of an operator is a narrower type; a tensor is."""

    def __init__(self) -> None:
        super().__init__()
        self.like = torch.zeros(1, dtype=torch.float16)

    def between(self, features: Tensor) -> Tensor:
        return features.type_as(self.like).float()


class HalfBuffer(Convolution):
    """A tensor in half precision is made, and written to."""

    def between(self, features: Tensor) -> Tensor:
        return torch.zeros(features.shape, dtype=torch.bfloat16).copy_(features).float()


class AutocastForCpu(Convolution):
    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = self.convolution(image)
        return self.head(torch.tanh(features.float()).mean((2, 3)))


class HalfOnlyOfFloat32(Convolution):
    """Runs in float32 only, and rounds to half there: there is no reference in float64 that could tell."""

    def between(self, features: Tensor) -> Tensor:
        assert features.dtype == torch.float32
        return features.half().float()


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (Half(), r"aten\.to in model \(test_widening\.py:\d+, in between: .*half.*\) computes in float16"),
        (HalfTensor(), r"aten\.type_as in model \(.*self\.like.*\) computes in float16"),
        (HalfBuffer(), r"aten\.zeros in model \(.*bfloat16.*\) computes in bfloat16"),
        (AutocastForCpu(), r"aten\.\w+ in model\.convolution \(.*self\.convolution.*\) computes in bfloat16"),
        (HalfOnlyOfFloat32(), r"aten\.to in model \(.*\) computes in float16"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_cast_to_a_narrower_float_that_changes_the_outputs_is_refused(network: nn.Module, named: str) -> None:
    with pytest.raises(NotExportable, match=named) as refusal:
        reference_of(network)
    assert "changes logits by" in str(refusal.value)
    assert "Remove the cast or the autocast" in str(refusal.value)


class HalfOutputs(Convolution):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image).half()


def test_outputs_in_half_precision_are_refused() -> None:
    with pytest.raises(NotExportable, match=r"gives float16 as logits, expected float32"):
        reference_of(HalfOutputs())


class Tutorial(nn.Module):
    """`.view` after a convolution, as PyTorch's 60-minute tutorial has it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first, self.second, self.head = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 4, 5), nn.Linear(100, 4)

    def forward(self, image: Tensor) -> Tensor:
        features = F.max_pool2d(F.relu(self.second(F.max_pool2d(F.relu(self.first(image)), 2))), 2)
        return self.head(features.view(-1, 100))


class Strided(Convolution):
    """Reads memory in the order of the contiguous format: another format gives other outputs without an error."""

    def between(self, features: Tensor) -> Tensor:
        return features.as_strided((len(features), 8, 80, 1), (640, 80, 1, 1)) * torch.linspace(0, 1, 80)[:, None]


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.convolution, self.head = nn.Conv3d(1, 4, 2), nn.Linear(4, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(torch.tanh(self.convolution(image.float())).mean((2, 3, 4)))


VOLUME = TensorSignature((Input("image", "float32", (1, 4, 4, 4), (-1.0, 1.0)),), LABELS)


@pytest.mark.parametrize(
    ("network", "signature", "reason"),
    [
        (Tutorial(), GREY, "view size is not compatible"),
        (Strided(), RGB, "logits differ in it"),
        (Volume(), VOLUME, "no weight has four dimensions"),
        (Plain(), SIGNATURE, "no weight has four dimensions"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_memory_format_that_a_module_does_not_take_is_left_out_with_its_reason(
    network: nn.Module, signature: Signature | TensorSignature, reason: str
) -> None:
    reference = reference_of(network, signature)
    assert reference.memory_formats == ("contiguous",)
    assert reason in reference.left_out["channels_last"]


def test_a_memory_format_that_a_module_takes_is_one_of_the_ways() -> None:
    reference = reference_of(Convolution())
    assert reference.memory_formats == ("contiguous", "channels_last")
    assert not reference.left_out


def test_the_default_dtype_and_the_precision_of_products_are_left_as_they_were() -> None:
    precision = torch.get_float32_matmul_precision()
    with pytest.raises(NotExportable):
        reference_of(Half())
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_float32_matmul_precision() == precision
