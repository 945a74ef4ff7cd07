"""Small float32 graphs of ONNX as the exporter writes them, with random weights, to be quantised."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["RESIDUAL_SHAPE", "residual_network"]

#: Height, width, channels of its images.
RESIDUAL_SHAPE = (12, 12, 3)


def residual_network(seed: int = 0) -> onnx.ModelProto:
    """Colour pixels in their own order, a padded convolution, a residual block, a gate, a mean, a linear layer."""
    chance = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {
        "sizes": np.array([-1, 1, 12, 36], np.int64),
        "shift": np.tile(-255 * np.array([0.485, 0.456, 0.406]), 12).astype(np.float32),
        "first.weight": _normal(chance, (8, 1, 3, 9), 0.003),
        "first.bias": _normal(chance, (8,), 0.1),
        "second.weight": _normal(chance, (8, 8, 3, 3), 0.2),
        "second.bias": _normal(chance, (8,), 0.1),
        "gate.weight": _normal(chance, (8, 8, 1, 1), 1.0),
        "gate.bias": _normal(chance, (8,), 1.0),
        "axes": np.array([2, 3], np.int64),
        "flat": np.array([-1, 8], np.int64),
        "head.weight": _normal(chance, (4, 8), 1.0),
        "head.bias": _normal(chance, (4,), 0.5),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "sizes"], ["bytes"]),
        helper.make_node("Cast", ["bytes"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["cast", "shift"], ["shifted"]),
        helper.make_node(
            "Conv", ["shifted", "first.weight", "first.bias"], ["one"], pads=[1, 3, 1, 3], strides=[1, 3],
            kernel_shape=[3, 9],
        ),
        helper.make_node("Relu", ["one"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pool", "second.weight", "second.bias"], ["two"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["two", "pool"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["block"]),
        helper.make_node("ReduceMean", ["block", "axes"], ["squeezed"], keepdims=1),
        helper.make_node("Conv", ["squeezed", "gate.weight", "gate.bias"], ["excited"]),
        helper.make_node("HardSigmoid", ["excited"], ["gate"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["block", "gate"], ["gated"]),
        helper.make_node("ReduceMean", ["gated", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "flat"], ["row"]),
        helper.make_node("Gemm", ["row", "head.weight", "head.bias"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", *RESIDUAL_SHAPE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("logits", "probabilities")],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _normal(chance: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    return (scale * chance.standard_normal(shape)).astype(np.float32)
