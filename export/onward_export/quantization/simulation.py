"""Simulation: a quantised graph computed in float64, as the reference of what its integers mean.

The graph's float32 constants and values become float64, so that nothing is rounded but what QuantizeLinear rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from onward.parity import Outputs

__all__ = ["Simulation"]

BATCH_SIZE = 16


class Simulation:
    """Runs a quantised graph in float64.

    Args:
        model: The graph as it is in the file.

    Source: onnx, `reference.ReferenceEvaluator`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.evaluator = ReferenceEvaluator(_in_float64(model), new_ops=[QuantizeLinear, DequantizeLinear, Conv])
        self.input = model.graph.input[0].name
        self.names = [output.name for output in model.graph.output]

    def run(self, samples: NDArray[Any]) -> Outputs:
        """Outputs in float64, by name."""
        batches = [
            self.evaluator.run(None, {self.input: samples[at : at + BATCH_SIZE]})
            for at in range(0, len(samples), BATCH_SIZE)
        ]
        return {
            name: np.concatenate(arrays) for name, arrays in zip(self.names, zip(*batches, strict=True), strict=True)
        }


def _in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    for initializer in wide.graph.initializer:
        _widen(initializer)
    for node in wide.graph.node:
        if node.op_type == "ConstantOfShape" and not node.attribute:  # float32 zeros by default
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
            elif attribute.type == onnx.AttributeProto.TENSOR:  # Constant and ConstantOfShape
                _widen(attribute.t)
    for output in wide.graph.output:
        output.CopyFrom(helper.make_tensor_value_info(output.name, TensorProto.DOUBLE, None))
    return wide


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


class QuantizeLinear(OpRun):
    """Rounds half to even, in float64."""

    def _run(self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any], **attributes: Any) -> tuple[NDArray[Any]]:
        limits = np.iinfo(zero.dtype)
        return (np.clip(np.rint(x / scale) + zero.astype(np.float64), limits.min, limits.max).astype(zero.dtype),)


class DequantizeLinear(OpRun):
    """`(x - zero) * scale`, in float64."""

    def _run(
        self, x: NDArray[Any], scale: NDArray[Any], zero: NDArray[Any] | None = None, axis: int = 1, **attributes: Any
    ) -> tuple[NDArray[Any]]:
        column = [-1 if item == axis else 1 for item in range(x.ndim)] if scale.ndim else []
        shifted = x.astype(np.float64)
        if zero is not None:
            shifted = shifted - zero.astype(np.float64).reshape(column)
        return (shifted * scale.astype(np.float64).reshape(column),)


class Conv(OpRun):
    """By PyTorch, which is a hundred times as fast as the evaluator's own."""

    def _run(
        self,
        x: NDArray[Any],
        weight: NDArray[Any],
        bias: NDArray[Any] | None = None,
        auto_pad: str = "NOTSET",
        dilations: Any = None,
        group: int = 1,
        kernel_shape: Any = None,
        pads: Any = None,
        strides: Any = None,
    ) -> tuple[NDArray[Any]]:
        num_axes = x.ndim - 2
        strides, dilations = list(strides or [1] * num_axes), list(dilations or [1] * num_axes)
        if auto_pad.startswith("SAME"):
            pads = _same_pads(x.shape[2:], weight.shape[2:], strides, dilations, is_upper=auto_pad == "SAME_UPPER")
        pads = list(pads or [0] * 2 * num_axes)
        # PyTorch's `pad` begins with the last axis
        around = [size for axis in reversed(range(num_axes)) for size in (pads[axis], pads[axis + num_axes])]
        convolve = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[num_axes - 1]
        result = convolve(
            torch.nn.functional.pad(_tensor(x), around),
            _tensor(weight),
            None if bias is None else _tensor(bias),
            stride=strides,
            dilation=dilations,
            groups=group,
        )
        return (result.numpy(),)


def _same_pads(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], *, is_upper: bool
) -> list[int]:
    """Pads at the beginning of each axis, then at the end, that give `ceil(size / stride)` outputs.

    Source: ONNX, operator Conv, `auto_pad`.
    """
    totals = [
        max((-(-size // stride) - 1) * stride + dilation * (length - 1) + 1 - size, 0)
        for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True)
    ]
    smaller, larger = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return smaller + larger if is_upper else larger + smaller


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A copy: arrays that the evaluator gives may be read-only."""
    return torch.from_numpy(np.array(array))
