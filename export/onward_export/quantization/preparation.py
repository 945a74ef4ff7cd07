"""Preparation: rewrites before quantisation. They compute the same in real arithmetic, and integer kernels run them.

- The mean over height and width becomes GlobalAveragePool, which has an integer kernel.
- A hard sigmoid after a layer is `clip(α x + β, 0, 1)`: α and β go into the layer's weights, and the clip is free,
  because the range of an integer ends at 0 and 1.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from onward_export.passes.linear_layer import LinearLayer, only_consumer, register_constant, remove_unused

__all__ = ["prepare"]

PLANES = {(2, 3), (-2, -1)}


def prepare(model: ir.Model) -> ir.Model:
    """A copy of a float32 model, rewritten, with the types and shapes of all values."""
    prepared = common.ShapeInferencePass()(model.clone()).model
    for node in list(prepared.graph):
        if node.op_type == "ReduceMean":
            _pool_globally(node)
        elif node.op_type == "HardSigmoid":
            _fold_hard_sigmoid(node)
    return common.ShapeInferencePass()(prepared).model


def _pool_globally(mean: ir.Node) -> None:
    source, axes = mean.inputs[0], mean.inputs[1] if len(mean.inputs) > 1 else None
    constant = None if axes is None else axes.const_value
    if source is None or axes is None or constant is None or source.shape is None or len(source.shape) != 4:
        return
    if tuple(sorted(constant.numpy().reshape(-1).tolist())) not in PLANES or not mean.attributes.get_int("keepdims", 1):
        return
    _replace(mean, ir.node("GlobalAveragePool", [source], name=mean.name))
    graph = source.graph
    if graph is not None:
        remove_unused(graph, [axes])


def _fold_hard_sigmoid(gate: ir.Node) -> None:
    source = gate.inputs[0]
    producer = None if source is None else source.producer()
    layer = None if producer is None else LinearLayer.ending_at(producer)
    if source is None or layer is None or only_consumer(source) is not gate:
        return
    alpha, beta = gate.attributes.get_float("alpha", 0.2), gate.attributes.get_float("beta", 0.5)
    weights, ones = layer.weights(), np.ones(layer.weights().num_outputs)
    folded = layer.replace(layer.last, weights.with_output(alpha * ones, beta * ones))
    graph = folded.graph
    assert isinstance(graph, ir.Graph)
    bounds = [_number(graph, f"{gate.outputs[0].name}_{name}", value) for name, value in (("low", 0.0), ("high", 1.0))]
    _replace(gate, ir.node("Clip", [folded.outputs[0], *bounds], name=gate.name))


def _number(graph: ir.Graph, name: str, number: float) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(np.float32(number), name=name))
    value.shape, value.dtype = ir.Shape(()), ir.DataType.FLOAT
    register_constant(graph, value)
    return value


def _replace(old: ir.Node, new: ir.Node) -> None:
    graph = old.graph
    assert isinstance(graph, ir.Graph)
    ir.convenience.replace_nodes_and_values(graph, old, [old], [new], old.outputs, new.outputs)
