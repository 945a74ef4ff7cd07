"""A fold changes a layer's weight and bias, and nothing of what the layer and its neighbour compute together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from onward_export.passes.layer_weights import LayerWeights, Layout, scale_and_shift_of_batch_norm

#: Two orders of some dozen float64 terms near 1 differ by less.
ROUNDING = 1e-12
LAYERS: dict[str, tuple[Layout, tuple[int, ...], int]] = {
    "conv": ("convolution", (6, 4, 3, 2), 1),
    "conv in groups": ("convolution", (6, 2, 3, 2), 2),
    "depthwise conv": ("convolution", (8, 1, 3, 2), 4),
    "conv1d": ("convolution", (6, 4, 3), 1),
    "transposed": ("transposed convolution", (4, 6, 3, 2), 1),
    "transposed in groups": ("transposed convolution", (4, 3, 3, 2), 2),
    "matrix": ("matrix", (6, 4), 1),
}
TAKING_PIXELS = [name for name in LAYERS if not name.startswith("transposed")]


def draw(seed: int, *shape: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


def make(name: str) -> LayerWeights:
    layout, shape, groups = LAYERS[name]
    num_outputs = shape[1] * groups if layout == "transposed convolution" else shape[0]
    return LayerWeights.from_stored(draw(0, *shape), draw(1, num_outputs), layout, groups)


def inputs_of(layer: LayerWeights) -> NDArray[np.float64]:
    return draw(2, 2, layer.num_inputs, *(7, 5)[: len(layer.kernel)])


def run(layer: LayerWeights, inputs: NDArray[np.float64], stride: Any = 1, padding: Any = 0) -> NDArray[np.float64]:
    x, weight, bias = (torch.from_numpy(np.ascontiguousarray(array)) for array in (inputs, layer.stored(), layer.bias))
    outputs: Tensor
    if layer.layout == "matrix":
        outputs = F.linear(x, weight, bias)
    elif layer.layout == "transposed convolution":
        outputs = F.conv_transpose2d(x, weight, bias, groups=layer.groups)
    else:
        convolve = F.conv2d if len(layer.kernel) == 2 else F.conv1d
        outputs = convolve(x, weight, bias, stride, padding, groups=layer.groups)
    return outputs.numpy()


def along(values: NDArray[np.float64], array: NDArray[np.float64]) -> NDArray[np.float64]:
    return values.reshape(1, -1, *(1,) * (array.ndim - 2))


@pytest.mark.parametrize("name", LAYERS)
def test_a_weight_is_stored_as_it_was_read(name: str) -> None:
    layout, shape, groups = LAYERS[name]
    weight = draw(0, *shape)
    np.testing.assert_array_equal(LayerWeights.from_stored(weight, None, layout, groups).stored(), weight)


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_norm_after_the_layer_is_folded(name: str) -> None:
    layer = make(name)
    outputs = run(layer, inputs_of(layer))
    gamma, beta, mean, variance = (draw(3 + at, layer.num_outputs) for at in range(4))
    expected = F.batch_norm(*map(torch.from_numpy, (outputs, mean, variance, gamma, beta)), eps=1e-3).numpy()
    folded = layer.with_output(*scale_and_shift_of_batch_norm(gamma, beta, mean, variance, 1e-3))
    np.testing.assert_allclose(run(folded, inputs_of(layer)), expected, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("name", TAKING_PIXELS)
def test_a_scale_and_a_shift_before_the_layer_are_folded(name: str) -> None:
    layer = make(name)
    inputs, scale, shift = inputs_of(layer), draw(3, layer.num_inputs), draw(4, layer.num_inputs)
    scaled = inputs * along(scale, inputs)
    expected = run(layer, scaled + along(shift, inputs))
    np.testing.assert_allclose(run(layer.with_input(scale, shift), inputs), expected, rtol=ROUNDING, atol=0)
    np.testing.assert_allclose(run(layer.with_input(scale), inputs), run(layer, scaled), rtol=ROUNDING, atol=0)


def test_a_repeat_of_channels_before_the_layer_is_folded() -> None:
    layer = make("conv")
    grey = draw(5, 2, 2, 7, 5)
    expected = run(layer, np.tile(grey, (1, 2, 1, 1)))
    np.testing.assert_allclose(run(layer.with_repeat(2), grey), expected, rtol=ROUNDING, atol=0)


def test_a_convolution_takes_pixels_whose_channels_lie_side_by_side() -> None:
    layer = make("conv")
    planes = inputs_of(layer)
    pixels = planes.transpose(0, 2, 3, 1).reshape(2, 1, 7, 5 * 4)
    expected = run(layer, planes, stride=(2, 1), padding=(1, 2))
    found = run(layer.with_interleaved_pixels((7, 5)), pixels, stride=(2, 4), padding=(1, 8))
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=0)


def test_a_matrix_takes_pixels_in_their_own_order() -> None:
    layer = LayerWeights.from_stored(draw(0, 6, 3 * 4 * 5), None, "matrix")
    planes = draw(1, 2, 3, 4, 5)
    expected = run(layer, planes.reshape(2, -1))
    found = run(layer.with_interleaved_pixels((4, 5)), planes.transpose(0, 2, 3, 1).reshape(2, -1))
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=0)
