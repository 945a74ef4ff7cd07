"""Calibration: the smallest and the largest value of every tensor that is quantised, over calibration images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onward.backends import Threads, open_backend
from onward.backends.backend import Backend
from onward.errors import NotExportable
from onward.feed import Feed

__all__ = ["Range", "Ranges", "measure_ranges"]

#: Value -> its smallest and its largest value.
Ranges = Mapping[str, "Range"]
BATCH_SIZE = 16


@dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a tensor."""

    low: float
    high: float


def measure_ranges(model: ir.Model, values: Sequence[ir.Value], images: NDArray[Any]) -> dict[str, Range]:
    """Run images through a float32 model, and note the extremes of some of its values.

    One thread computes, so that the ranges do not depend on how many there are.

    Raises:
        NotExportable: A value is NaN or infinite.
    """
    names = [value.name or "" for value in values]
    backend = open_backend("onnx", _with_extremes(model, names), None, threads=Threads(1))
    batches = (images[at : at + BATCH_SIZE] for at in range(0, len(images), BATCH_SIZE))
    found = np.array([_extremes(backend, {model.graph.inputs[0].name or "": batch}) for batch in batches])
    lows, highs = found[:, 0].min(0), found[:, 1].max(0)
    for name, low, high in zip(names, lows, highs, strict=True):
        if not (math.isfinite(low) and math.isfinite(high)):
            raise NotExportable(f"{name} is NaN or infinite for some calibration images, so it has no range.")
    return {name: Range(float(low), float(high)) for name, low, high in zip(names, lows, highs, strict=True)}


def _extremes(backend: Backend, feed: Feed) -> NDArray[np.float32]:
    """`(2, values)`: the smallest and the largest of each value in a batch."""
    return np.array([float(array) for array in backend.run(feed).values()], np.float32).reshape(2, -1)


def _with_extremes(model: ir.Model, names: Sequence[str]) -> bytes:
    """A model whose outputs are the minima, then the maxima of the values of these names."""
    measured = model.clone()
    by_name = {value.name: value for node in measured.graph for value in node.outputs}
    by_name |= {value.name: value for value in measured.graph.inputs}
    outputs = []
    for op_type in ("ReduceMin", "ReduceMax"):
        for name in names:
            node = ir.node(op_type, [by_name[name]], {"keepdims": 0})
            node.outputs[0].name = f"{name}_{op_type}"
            node.outputs[0].dtype, node.outputs[0].shape = ir.DataType.FLOAT, ir.Shape(())
            measured.graph.append(node)
            outputs.append(node.outputs[0])
    measured.graph.outputs.clear()
    measured.graph.outputs.extend(outputs)
    return bytes(ir.to_proto(measured).SerializeToString())
