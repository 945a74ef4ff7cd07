"""Account: whether the file that ships holds the float32 model, rounded, and nothing else.

It reads the file and knows nothing of how it was written. Outputs alone would miss a scale that is a little wrong:
labelled images rarely show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from onward_export.passes.linear_layer import constant_value
from onward_export.quantization.calibration import Range, Ranges
from onward_export.quantization.graph import bias_of
from onward_export.quantization.integers import MIN_SCALE, NUM_STEPS
from onward_export.quantization.placement import BOUNDING, LAYERS, IntegerPlacement, axis_of_outputs

__all__ = ["unexplained"]

#: Half a step is what rounding may cost; the rest is float32's own rounding of scales and products.
HALF_STEP = 0.5 * (1 + 1e-3)
#: An 8-bit scale uses at least so many of its steps; else it is too large.
MIN_STEPS_USED = 62
LARGE_BIAS_STEPS = 1 << 29


def unexplained(file: onnx.ModelProto, prepared: ir.Model, placement: IntegerPlacement, ranges: Ranges) -> list[str]:
    """What in a file is not the float32 model, rounded; a sentence each.

    Args:
        file: What ships.
        prepared: The float32 model, as it was quantised.
        placement: Of `prepared`: what was quantised.
        ranges: Measured anew on the calibration images.
    """
    read, reference = _File(file), _File(ir.to_proto(prepared))
    if graph := [*_interface(read, reference), *_nodes(read, reference, placement)]:
        return graph
    return [*_layers(read, placement), *_values(read, placement, ranges)]


class _File:
    """The nodes and constants of a file, by name."""

    def __init__(self, file: onnx.ModelProto) -> None:
        self.interface = [[value.name for value in values] for values in (file.graph.input, file.graph.output)]
        self.constants = {item.name: numpy_helper.to_array(item) for item in file.graph.initializer}
        self.nodes = {node.name: node for node in file.graph.node}
        self.producers = {output: node for node in file.graph.node for output in node.output}

    def parameters(self, name: str) -> tuple[float, int] | None:
        """Scale and zero point of a node; None where there is no such node."""
        node = self.nodes.get(name)
        if node is None:
            return None
        scale, zero = (self.constants[item] for item in node.input[1:3])
        return float(scale), int(zero)

    def dequantized(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
        """A constant's values, the steps of its outputs (broadcast), and its integers."""
        node = self.producers[name]
        integers, scales = (self.constants[item] for item in node.input[:2])
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        steps = scales.astype(np.float64).reshape([-1 if item == axis else 1 for item in range(integers.ndim)])
        zeros = self.constants[node.input[2]].astype(np.float64).reshape(steps.shape) if len(node.input) > 2 else 0.0
        return (integers.astype(np.float64) - zeros) * steps, steps, integers

    def before_rounding(self, name: str) -> tuple[str, str] | None:
        """What a dequantised value was before, and the name of the value that it stands for; None for another value."""
        node = self.producers.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] in self.constants:
            return None
        rounding = self.producers.get(node.input[0])
        is_rounded = rounding is not None and rounding.op_type == "QuantizeLinear"
        return (rounding.input[0] if rounding is not None and is_rounded else node.input[0]), _stem(node.name)


def _stem(name: str) -> str:
    return name.removesuffix("_dequantize").removesuffix("_quantize")


def _interface(file: _File, reference: _File) -> Iterator[str]:
    if file.interface != reference.interface:
        yield f"the inputs and outputs are {file.interface}, expected {reference.interface}."


def _nodes(file: _File, reference: _File, placement: IntegerPlacement) -> Iterator[str]:
    """Every node is one of float32's, with the same attributes and inputs; only layers among integers have others."""
    layers = {node.outputs[0].name for node in placement.nodes if node.op_type in LAYERS}
    pixels = {item.value.name: item.bytes.name for item in placement.pixels}
    for output, node in file.producers.items():
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        expected = reference.producers.get(output)
        if expected is None or _described(node) != _described(expected):
            yield f"a node {node.op_type} that gives {output} is not in the float32 model."
            continue
        count = 1 if output in layers else max(len(node.input), len(expected.input))
        for name, wanted in zip_longest(node.input[:count], expected.input[:count], fillvalue=""):
            if not _is_same(name, wanted, file, reference, pixels):
                yield f"{node.op_type} that gives {output} reads {name!r}, expected {wanted!r}."


def _described(node: onnx.NodeProto) -> tuple[str, str, tuple[str, ...], list[bytes]]:
    attributes = sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
    return node.domain, node.op_type, tuple(node.output), attributes


def _is_same(name: str, wanted: str, file: _File, reference: _File, pixels: Mapping[str | None, str | None]) -> bool:
    """Whether an input of the file is that of float32: the same value, rounded or not, or an equal constant."""
    if wanted in reference.constants:
        found, constant = file.constants.get(name), reference.constants[wanted]
        return found is not None and found.dtype == constant.dtype and np.array_equal(found, constant, equal_nan=True)
    rounded = file.before_rounding(name)
    if rounded is None:
        return name == wanted
    source, stands_for = rounded
    if stands_for != wanted:
        return False
    if wanted in pixels:
        return source == pixels[wanted]
    # a Relu or Clip before the rounding may be left out: `_values` finds a range that goes beyond its bounds
    bound = reference.producers.get(wanted)
    return source == wanted or (bound is not None and bound.op_type in BOUNDING and source == bound.input[0])


def _layers(file: _File, placement: IntegerPlacement) -> Iterator[str]:
    for node in placement.nodes:
        if node.op_type not in LAYERS or node.inputs[1] is None:
            continue
        layer, weight = file.producers[node.outputs[0].name or ""], constant_value(node.inputs[1])
        assert weight is not None
        name = node.inputs[1].name
        values, steps, integers = file.dequantized(layer.input[1])
        if not np.all(np.abs(values - weight) <= HALF_STEP * steps):
            yield f"{name} is off by up to {np.max(np.abs(values - weight) / steps):.3g} steps."
        bias, offsets = bias_of(node, placement), np.zeros(1)
        if bias is not None:
            sums, bias_steps, offsets = file.dequantized(layer.input[2])
            if not np.all(np.abs(sums - bias) <= HALF_STEP * bias_steps):
                yield f"the bias of {name} is off by up to {np.max(np.abs(sums - bias) / bias_steps):.3g} steps."
        others = tuple(item for item in range(integers.ndim) if item != axis_of_outputs(node))
        largest = np.abs(integers.astype(np.int16)).max(others)
        # a scale may be larger where the bias would not fit into int32 otherwise
        smallest = steps.reshape(-1) <= np.float32(MIN_SCALE)
        if not np.all((largest >= MIN_STEPS_USED) | smallest | (np.abs(offsets) >= LARGE_BIAS_STEPS)):
            yield f"{name} has scales that are larger than its values need."


def _values(file: _File, placement: IntegerPlacement, ranges: Ranges) -> Iterator[str]:
    for pixels in placement.pixels:
        found = file.parameters(f"{pixels.value.name}_dequantize")
        if found != (1.0, int(pixels.activation.zero_point)):
            yield f"the pixels have scale and zero point {found}, expected 1 and {pixels.activation.zero_point}."
    for value in placement.values:
        wanted = ranges[placement.source(value).name or ""]
        pair = [file.parameters(f"{value.name}_{step}") for step in ("quantize", "dequantize")]
        if pair[0] is None or pair[0] != pair[1]:
            yield f"{value.name} is rounded with {pair[0]} and read with {pair[1]}."
        elif not _fits(pair[0], wanted):
            yield (
                f"{value.name} has scale {pair[0][0]:.4g} and zero point {pair[0][1]}, which do not fit its range "
                f"{wanted.low:.4g} to {wanted.high:.4g} on the calibration images."
            )


def _fits(parameters: tuple[float, int], wanted: Range) -> bool:
    """Whether integers reach from the smallest to the largest value, and not further."""
    scale, zero = parameters
    if wanted.low == wanted.high == 0:
        return scale > 0
    low, high = min(wanted.low, 0.0), max(wanted.high, 0.0)
    reached = -zero * scale, (NUM_STEPS - zero) * scale
    return all(abs(end - limit) <= HALF_STEP * scale for end, limit in zip(reached, (low, high), strict=True))
