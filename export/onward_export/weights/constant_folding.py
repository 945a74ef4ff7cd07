"""Constant folding: values that a program computes from weights and constants alone, whatever its input.

Exporters compute such values in advance: a relative position bias, a class token repeated for a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.export import ExportedProgram
from torch.fx.node import map_arg

from onward_export.reference.widening import widened
from onward_export.weights.folded_value import FoldedValue

__all__ = ["constant_values", "folded_constants"]

#: Kernels of exp, sqrt and similar functions differ by this much. Each operation rounds by half a unit in the last
#: place.
ULPS = 8

#: Operators that read only the dtype of their first argument, not its values.
DTYPE_READERS = ("aten.new_zeros.default", "aten.new_ones.default", "aten.new_full.default")


def folded_constants(
    program: ExportedProgram, expected: Mapping[str, Tensor], rounded: Mapping[str, Tensor]
) -> Iterator[FoldedValue]:
    """Values that exporters compute from weights and constants and round differently from PyTorch (numpy's `exp`).

    Args:
        program: The exported program.
        expected: The state_dict of the module that was exported.
        rounded: The values in float32, as `constant_values` gives them.
    """
    exact = constant_values(program, expected, torch.float64)
    stored = {node.name for node in program.graph.nodes if node.op == "placeholder"}
    for name in (rounded.keys() & exact.keys()) - stored:  # a stored value must be equal bit for bit
        if exact[name].dtype != torch.float64 or not exact[name].numel():
            continue
        value = exact[name].numpy()
        error = float(np.abs(rounded[name].numpy() - value).max())
        scale = float(np.finfo(np.float32).eps * np.abs(value).max())
        yield FoldedValue(f"{name}, computed from weights alone", value, ULPS * max(scale, error))


def constant_values(
    program: ExportedProgram, expected: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Weights, constants, and the values that the program computes from them alone.

    Args:
        program: The exported program, in float32.
        expected: The state_dict of the module that was exported.
        dtype: Floats are cast to it; a value that cannot be computed in it is left out.

    Returns:
        Name of the program's node -> its value when it was computed. A later operator may write into it, so the final
        value is given too, as `NAME in the end`.
    """
    signature = program.graph_signature
    names = signature.inputs_to_parameters | signature.inputs_to_buffers
    names |= signature.inputs_to_lifted_tensor_constants
    stored = program.state_dict | program.constants | dict(expected)
    values: dict[Any, Any] = {}
    found: dict[str, Tensor] = {}
    with torch.inference_mode(), widened(dtype) if dtype == torch.float64 else nullcontext():
        for node in program.graph.nodes:
            if node.op == "placeholder" and names.get(node.name) in stored:
                values[node] = found[str(node)] = stored[names[node.name]]
            elif node.op == "call_function" and all(source in values for source in _read_by(node)):
                try:
                    found |= _compute(node, values, dtype)
                except (RuntimeError, TypeError):  # e.g. a constant of the graph in the other precision
                    continue
    computed = {str(node): values[node] for node in values if str(node) in found and node.op == "call_function"}
    return found | {f"{name} in the end": value for name, value in computed.items()}


def _read_by(node: Any) -> list[Any]:
    """The nodes whose values a node depends on."""
    return [
        source for source in node.all_input_nodes if str(node.target) not in DTYPE_READERS or source != node.args[0]
    ]


def _compute(node: Any, values: dict[Any, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute a node into `values`. Returns a copy of its value, and of the parts that the exporter splits it into."""
    known = values
    if str(node.target) in DTYPE_READERS:
        like = node.args[0].meta["val"].dtype
        known = values | {node.args[0]: torch.empty((), dtype=dtype if like.is_floating_point else like)}

    def read(source: Any) -> Any:
        value = known[source]
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    args, kwargs = map_arg((node.args, node.kwargs), read)
    parts = {}
    if str(node.target) == "aten.linear.default" and len(args) > 2:  # in ONNX a product and a sum
        parts[f"{node} without its bias"] = node.target(*args[:2])
    values[node] = node.target(*args, **kwargs)
    if isinstance(values[node], Tensor) and not is_functorch_wrapped_tensor(values[node]):  # as inside `torch.vmap`
        parts[str(node)] = values[node].clone()
    return parts
