"""Every stored value of an artifact is explained, and a value that is not the checkpoint's is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import RGB, SIGNATURE, Plain, Residual
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from onward.feed import draw
from onward.signature import Signature
from onward_export.deployable import Deployable
from onward_export.explanation.expected import Expected
from onward_export.formats.onnx_file import write_onnx
from onward_export.formats.program import example_inputs, export_program, write_pt2
from onward_export.weights import WeightCheck, check_onnx, check_pt2, check_torchscript
from onward_export.weights.folded_value import FoldedValue, ulps_of

Check = Callable[[Mapping[str, Tensor]], WeightCheck]
GREY_AS_RGB = Signature(12, 10, 1, (0.48, 0.45, 0.4), (0.23, 0.22, 0.22), ("a", "b", "c", "d"), repeat=3)


class Valid(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.stem[0].padding = (0, 0)


class Upsampled(nn.Module):
    """A transposed convolution in groups with batch norm, after a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, groups=3),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2),
            nn.BatchNorm2d(4),
        )
        self.body[1].running_mean.uniform_(-50, 50)
        self.body[4].running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image).mean((2, 3))


class RowByRow(nn.Module):
    """A linear layer over the rows of the image, not over the whole of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Linear(8, 5), nn.Linear(5, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image)[:, 0].relu().mean(1))


class ByHand(nn.Module):
    """Products and sums in place of linear layers, batch norm after a dropout."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.first = nn.Parameter(torch.randn(64, 8))
        self.offset = nn.Parameter(torch.randn(8))
        self.norms = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(8))
        self.head = nn.Sequential(
            nn.Linear(8, 8, bias=False), nn.Dropout(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)
        )
        self.norms[1].running_mean.uniform_(-1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.norms(image.flatten(1) @ self.first + self.offset))


@pytest.mark.parametrize(
    ("network", "signature", "fold"),
    [
        (Plain(), SIGNATURE, "normalisation into the bias beside model.1.weight"),
        (Plain(360), GREY_AS_RGB, "normalisation and repeat into model.1.weight"),
        (Valid(), RGB, "normalisation and batch norm into the bias beside model.stem.0.weight"),
        (Valid(), GREY_AS_RGB, "normalisation and repeat and batch norm into model.stem.0.weight"),
        (Residual(), GREY_AS_RGB, "scale of the normalisation and batch norm into model.stem.0.weight"),
        (
            Residual(),
            RGB,
            "scale of the normalisation and layout of the pixels and batch norm into model.stem.0.weight",
        ),
        (Residual(), RGB, "layout of the pixels into the scale of the normalisation into its shift"),
        (Plain(360), RGB, "scale of the normalisation and layout of the pixels into model.1.weight"),
        (Upsampled(), RGB, "batch norm into model.body.3.weight"),
        (ByHand(), SIGNATURE, "batch norm into model.head.0.weight"),
    ],
    ids=[
        "plain",
        "grey as RGB",
        "unpadded",
        "unpadded, grey as RGB",
        "padded",
        "RGB",
        "RGB, shift",
        "plain RGB",
        "transposed",
        "by hand",
    ],
)
def test_every_fold_in_a_file_is_accounted_for(
    network: nn.Module, signature: Signature, fold: str, tmp_path: Path
) -> None:
    deployable, path = Deployable(network, signature), tmp_path / "model.onnx"
    program = export_program(deployable, signature)
    write_onnx(program, path, signature, {})  # unmeasured: every pass is kept
    check = check_onnx(path, deployable.state_dict(), program)
    assert check.passed, check.unexplained
    assert fold in check.all_by("folded")


def test_a_linear_layer_over_rows_of_the_image_is_explained(tmp_path: Path) -> None:
    deployable, path = Deployable(RowByRow(), SIGNATURE), tmp_path / "model.onnx"
    program = export_program(deployable, SIGNATURE)
    write_onnx(program, path, SIGNATURE, {})
    assert check_onnx(path, deployable.state_dict(), program).passed


def _nudged(tensor: Tensor, num_ulps: int = 1) -> Tensor:
    """The tensor with its first value some units in the last place larger."""
    array = tensor.numpy().copy()
    for _ in range(num_ulps):
        array.flat[0] = np.nextafter(array.flat[0], np.float32(np.inf))
    return torch.from_numpy(array)


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], dict[str, Check]]:
    """The state_dict of a small module, and format -> a check of its artifact against another state_dict."""
    folder = tmp_path_factory.mktemp("formats")
    deployable = Deployable(Plain(), SIGNATURE)
    program = export_program(deployable, SIGNATURE)
    write_onnx(program, folder / "model.onnx", SIGNATURE, {})
    torch.jit.save(torch.jit.trace(deployable, example_inputs(deployable, SIGNATURE)), folder / "model.torchscript")
    write_pt2(program, folder / "model.pt2")
    return deployable.state_dict(), {
        "onnx": lambda expected: check_onnx(folder / "model.onnx", expected, program),
        "torchscript": lambda expected: check_torchscript(folder / "model.torchscript", expected),
        "pt2": lambda expected: check_pt2(folder / "model.pt2", expected),
    }


@pytest.mark.parametrize("format", ["onnx", "torchscript", "pt2"])
def test_a_weight_that_differs_by_one_unit_in_the_last_place_is_unexplained(
    format: str, checks: tuple[dict[str, Tensor], dict[str, Check]]
) -> None:
    state, check = checks[0], checks[1][format]
    assert check(state).unexplained == ()
    found = check(state | {"model.3.weight": _nudged(state["model.3.weight"])})
    (sentence,) = found.unexplained
    assert sentence.startswith("model.3.weight: 1 of 64 values differ from the checkpoint's")
    assert found.count("equal") == check(state).count("equal") - 1


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_weight_of_the_checkpoint_that_an_artifact_lacks_is_unexplained(
    format: str, checks: tuple[dict[str, Tensor], dict[str, Check]]
) -> None:
    state, check = checks[0], checks[1][format]
    assert check(state | {"model.9.weight": torch.zeros(1)}).unexplained == (
        "model.9.weight of the checkpoint is missing",
    )


def test_a_folded_value_may_differ_by_one_unit_in_the_last_place_and_no_more() -> None:
    exact = torch.tensor([0.75, -0.3])
    array = exact.numpy().astype(np.float64)
    value = FoldedValue("fold", array, ulps_of(array))
    assert [value.explains(_nudged(exact, num_ulps).numpy()) for num_ulps in (0, 1, 2)] == [True, True, False]


class Recurrent(nn.Module):
    """The exporter puts the gates in another order and joins the biases."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(6)
        self.rows, self.head = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.rows(image[:, 0])[0][:, -1])


class Grouped(nn.Module):
    """A padding before the first layer, weights computed from weights, the ones and zeros of a group norm, a dead unit
    behind each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first, self.norm = nn.Conv2d(1, 8, 3), nn.GroupNorm(4, 8)
        self.second, self.head = nn.Conv2d(8, 8, 3, bias=False), nn.Linear(8, 4)
        self.norm.bias.data[:4] = -100.0

    def forward(self, image: Tensor) -> Tensor:
        alive = self.norm(self.first(nn.functional.pad(image, (0, 1, 0, 1)))).relu()
        weight = self.second.weight
        weight = weight / weight.pow(2).mean((1, 2, 3), keepdim=True).add(1e-6).sqrt()
        return self.head(nn.functional.conv2d(alive, weight).relu().mean((2, 3)))


class Pruned(Grouped):
    """Most weights are zero, and stay zero in every value that is computed from them."""

    def __init__(self) -> None:
        super().__init__()
        for layer in (self.first, self.second):
            kept = torch.zeros_like(layer.weight).bernoulli_(0.3, generator=torch.Generator().manual_seed(1))
            layer.weight.data *= kept


@dataclass(frozen=True)
class Written:
    """A file, and a check of it after a change."""

    path: Path
    check: Callable[[Callable[[dict[str, NDArray[Any]]], None]], WeightCheck]


@pytest.fixture(scope="module", params=[Recurrent, Grouped, Pruned])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    path = tmp_path_factory.mktemp("probed") / "model.onnx"
    deployable = Deployable(request.param(), SIGNATURE)
    program = export_program(deployable, SIGNATURE)
    decomposed = write_onnx(program, path, SIGNATURE, {}).program
    sound = path.read_bytes()
    feed = draw(SIGNATURE, 4, np.random.default_rng(0))

    def check(change: Callable[[dict[str, NDArray[Any]]], None]) -> WeightCheck:
        model = onnx.load_from_string(sound)
        arrays = {item.name: numpy_helper.to_array(item).copy() for item in model.graph.initializer}
        change(arrays)
        for item in model.graph.initializer:
            item.CopyFrom(numpy_helper.from_array(arrays[item.name], item.name))
        path.write_bytes(model.SerializeToString())
        return check_onnx(path, deployable.state_dict(), program, decomposed, feed)

    return Written(path, check)


def test_what_the_exporter_computes_of_weights_is_probed_and_passes(written: Written) -> None:
    found = written.check(lambda arrays: None)
    assert found.passed, found.unexplained
    assert found.count("probed") >= 2


def test_a_change_in_any_probed_value_is_found_though_its_unit_is_dead(written: Written) -> None:
    sound = written.check(lambda arrays: None)
    for name in (value.name for value in sound.values if value.way == "probed"):
        size = int(np.prod(arrays_of_file(written.path)[name].shape))
        for place in (0, size // 2, size - 1):

            def change(arrays: dict[str, NDArray[Any]], name: str = name, place: int = place) -> None:
                arrays[name].reshape(-1)[place] += 0.01 * (np.abs(arrays[name]).max() or 1)

            assert any(name in sentence for sentence in written.check(change).unexplained), (name, place)


def arrays_of_file(path: Path) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load(path).graph.initializer}


def _swap_gates(arrays: dict[str, NDArray[Any]]) -> None:
    weights = next(array for array in arrays.values() if array.shape == (1, 24, 8))
    weights[0, :12] = np.concatenate([weights[0, 6:12], weights[0, :6]])


def _join_a_bias_twice(arrays: dict[str, NDArray[Any]]) -> None:
    bias = next(array for array in arrays.values() if array.shape == (1, 48))
    bias[0, 24:] = bias[0, :24]


@pytest.mark.parametrize("written", [Recurrent], indirect=True)
@pytest.mark.parametrize("fault", [_swap_gates, _join_a_bias_twice])
def test_gates_in_another_order_and_a_bias_joined_twice_are_found(
    written: Written, fault: Callable[[dict[str, NDArray[Any]]], None]
) -> None:
    found = written.check(fault)
    assert not found.passed
    assert "times its own error" in found.unexplained[0]


def test_infinities_of_a_mask_are_compared_and_hide_no_other_error() -> None:
    mask = np.array([[0.0, -np.inf, 2.0], [0.0, 0.0, -np.inf]])
    expected = Expected(mask, [mask.astype(np.float32)])
    assert expected.compare(mask.astype(np.float32)) == (0.0, 0.0, "")
    assert expected.worst_channel(mask) == 0.0
    for changed in (mask + 1e-3, np.where(np.isinf(mask), 0.0, mask)):
        error, _, mismatch = expected.compare(changed)
        assert not mismatch
        assert error / expected.floor > 1000
        assert expected.worst_channel(changed) > 1000


def test_a_copy_with_one_changed_number_is_refused_whatever_its_effect(
    checks: tuple[dict[str, Tensor], dict[str, Check]],
) -> None:
    state, check = checks[0], checks[1]["onnx"]
    folded = "model.1.weight"
    assert check(state).all_by("folded")
    (sentence, *_) = check(state | {folded: _nudged(state[folded], 2**16)}).unexplained
    assert "most of its values equal" in sentence
