"""Weights: every stored value of an artifact is the checkpoint's, bit for bit, or a stated fold of it.

Rule 5 of docs/parity.md. Outputs alone miss a changed weight behind a unit that never fires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx.node import map_arg

from runtime.backends.torchscript import torchscript_is_meant

__all__ = ["WeightCheck", "check_onnx", "check_pt2", "check_torchscript"]

#: A fold is two or three float32 operations; each may round by half a unit in the last place.
FOLD_ULPS = 8
#: They make a tensor of numbers that are in the graph, whatever is in the tensor that they take the dtype from.
FACTORIES = ("aten.new_zeros.default", "aten.new_ones.default", "aten.new_full.default")
CONVOLUTIONS = ("aten.conv1d.default", "aten.conv2d.default", "aten.conv3d.default", "aten.linear.default")
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class WeightCheck:
    """What became of the weights in one artifact.

    Args:
        num_exact: Tensors that equal the checkpoint's bit for bit.
        num_rearranged: Equal bit for bit after a transpose or a reshape, or to what PyTorch computes from weights
            and constants alone.
        folds: What was folded into what, each recomputed in float64 and found equal to rounding.
        num_scalars: Single numbers of the graph, such as an attention's scale, which only outputs can check.
        strangers: Tensors that are none of these, with the reason.
    """

    num_exact: int
    num_rearranged: int
    folds: tuple[str, ...]
    num_scalars: int
    strangers: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every tensor is accounted for."""
        return not self.strangers

    def to_json(self) -> dict[str, Any]:
        """All counts and names."""
        return asdict(self) | {"passed": self.passed}


@dataclass(frozen=True)
class _Fold:
    what: str
    value: NDArray[np.float64]
    tolerance: NDArray[np.float64]

    def explains(self, array: NDArray[Any]) -> bool:
        if array.shape != self.value.shape:
            return False
        return bool((np.abs(array.astype(np.float64) - self.value) <= self.tolerance).all())


def check_onnx(path: Path, expected: Mapping[str, Tensor], program: ExportedProgram) -> WeightCheck:
    """Account for every floating-point initializer and constant of an ONNX file.

    Args:
        path: The file that ships.
        expected: The state_dict of the module that was exported.
        program: Its exported program, which says what batch normalisation follows what.
    """
    known = _to_numpy(expected)
    computed = _derived(program)
    folds = [*_folds(program, known), *_computed(computed, program)]
    derived = _to_numpy(computed)
    rearrangements = {_fingerprint(view) for array in (*known.values(), *derived.values()) for view in _views(array)}
    exact = rearranged = scalars = 0
    used: list[str] = []
    strangers: list[str] = []
    for name, array in _stored_floats(path):
        if name in known and _same_bits(array, known[name]):
            exact += 1
        elif (name not in known or array.shape != known[name].shape) and _fingerprint(array) in rearrangements:
            rearranged += 1
        elif fold := next((fold for fold in folds if fold.explains(array)), None):
            used.append(fold.what)
        elif array.size == 1 and name not in known:
            scalars += 1
        else:
            strangers.append(_describe(name, array, known.get(name)))
    return WeightCheck(exact, rearranged, tuple(used), scalars, tuple(strangers))


def check_torchscript(path: Path, expected: Mapping[str, Tensor]) -> WeightCheck:
    """Hold the state_dict of a TorchScript file against the module's."""
    with torchscript_is_meant():
        found = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return _check_state(found, expected)


def check_pt2(path: Path, expected: Mapping[str, Tensor]) -> WeightCheck:
    """Hold the state_dict of a .pt2 file against the module's."""
    return _check_state(torch.export.load(path).state_dict, expected)


def _check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> WeightCheck:
    known, stored = _to_numpy(expected), _to_numpy(found)
    strangers = [f"{name} is missing" for name in known if name not in stored]
    strangers += [
        _describe(name, array, known.get(name))
        for name, array in stored.items()
        if name not in known or not _same_bits(array, known[name])
    ]
    return WeightCheck(len(known) - len(strangers), 0, (), 0, tuple(strangers))


def _stored_floats(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    model = onnx.load(path)
    stored = [(item.name, item) for item in model.graph.initializer]
    stored += [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.TENSOR
    ]
    for name, tensor in stored:
        array = numpy_helper.to_array(tensor)
        if np.issubdtype(array.dtype, np.floating):
            yield name, array


def _derived(program: ExportedProgram, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """What the program computes from weights and constants alone, e.g. a relative position bias.

    Args:
        program: In float32.
        dtype: What floats are cast to; what cannot be computed in it is left out.

    Returns:
        The value of each node as it was computed, and, since a later operator may write into it, as it is in the end.
    """
    signature = program.graph_signature
    names = signature.inputs_to_parameters | signature.inputs_to_buffers
    names |= signature.inputs_to_lifted_tensor_constants
    stored = program.state_dict | program.constants
    values: dict[Any, Any] = {}
    found: dict[str, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder" and names.get(node.name) in stored:
            values[node] = stored[names[node.name]]
        elif node.op == "call_function" and all(source in values for source in _read_by(node)):
            try:
                found |= _compute(node, values, dtype)
            except (RuntimeError, TypeError):  # e.g. a constant of the graph in the other width
                continue
    computed = {str(node): value for node, value in values.items() if node.op == "call_function"}
    return found | {f"{name} in the end": value for name, value in computed.items() if isinstance(value, Tensor)}


def _read_by(node: Any) -> list[Any]:
    """The nodes whose values a node depends on: of the first argument, a factory reads the dtype alone."""
    return [source for source in node.all_input_nodes if str(node.target) not in FACTORIES or source != node.args[0]]


def _compute(node: Any, values: dict[Any, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute a node into `values`; returns a copy of it, and of the parts that the exporter makes of it."""
    known = values
    if str(node.target) in FACTORIES:
        like = node.args[0].meta["val"].dtype
        known = values | {node.args[0]: torch.empty((), dtype=dtype if like.is_floating_point else like)}

    def read(source: Any) -> Any:
        value = known[source]
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    args, kwargs = map_arg((node.args, node.kwargs), read)
    with torch.inference_mode():
        parts = {}
        if str(node.target) == "aten.linear.default" and len(args) > 2:  # ONNX has a product and a sum
            parts[f"{node} without its bias"] = node.target(*args[:2])
        values[node] = node.target(*args, **kwargs)
    if isinstance(values[node], Tensor):
        parts[str(node)] = values[node].clone()
    return parts


def _computed(narrow: Mapping[str, Tensor], program: ExportedProgram) -> Iterator[_Fold]:
    """What exporters compute in advance, with kernels that round otherwise than PyTorch's (numpy's `exp`)."""
    wide = _derived(program, torch.float64)
    for name in narrow.keys() & wide.keys():
        if wide[name].dtype != torch.float64 or not wide[name].numel():
            continue
        value = wide[name].numpy()
        error = float(np.abs(narrow[name].numpy() - value).max())
        rounding = FOLD_ULPS * max(float(np.finfo(np.float32).eps * np.abs(value).max()), error)
        yield _Fold(f"{name}, computed from weights alone", value, np.full_like(value, rounding))


def _folds(program: ExportedProgram, known: Arrays) -> Iterator[_Fold]:
    """The weight and the bias that each batch normalisation makes of the layer before it."""
    names = program.graph_signature.inputs_to_parameters | program.graph_signature.inputs_to_buffers

    def read(node: Any) -> NDArray[np.float64] | None:
        name = names.get(getattr(node, "name", ""), "")
        return known[name].astype(np.float64) if name in known else None

    for node in program.graph.nodes:
        if str(node.target) != "aten.batch_norm.default":
            continue
        layer, gamma, beta, mean, variance = node.args[0], *map(read, node.args[1:5])
        if str(getattr(layer, "target", "")) not in CONVOLUTIONS or mean is None or variance is None:
            continue
        weight = read(layer.args[1])
        bias = read(layer.args[2]) if len(layer.args) > 2 else None
        if weight is None:
            continue
        epsilon = np.finfo(np.float32).eps * FOLD_ULPS
        factor = (1.0 if gamma is None else gamma) / np.sqrt(variance + node.args[7])
        folded = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
        moved = ((0.0 if bias is None else bias) - mean) * factor
        spread = np.abs(mean * factor) + np.abs(0.0 if bias is None else bias * factor) + np.abs(moved)
        shift = np.zeros_like(mean) if beta is None else beta
        name = names[layer.args[1].name]
        yield _Fold(f"batch norm into {name}", folded, epsilon * np.abs(folded) + np.finfo(np.float32).tiny)
        yield _Fold(f"batch norm into the bias beside {name}", moved + shift, epsilon * (spread + np.abs(shift)))


def _views(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    yield array
    if array.ndim >= 2:
        yield np.swapaxes(array, -1, -2)
    if array.ndim > 2:
        yield array.T


def _fingerprint(array: NDArray[Any]) -> tuple[str, int, bytes]:
    # the values in order, whatever their shape
    return (str(array.dtype), array.size, hashlib.sha256(np.ascontiguousarray(array).data).digest())


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _describe(name: str, array: NDArray[Any], expected: NDArray[Any] | None) -> str:
    if expected is None:
        return f"{name} {array.shape} is none of the checkpoint's tensors, nor a fold of them"
    if array.shape != expected.shape:
        return f"{name} has shape {array.shape}, the checkpoint's {expected.shape}"
    changed = array != expected
    largest = float(np.abs(array.astype(np.float64) - expected.astype(np.float64)).max())
    return f"{name}: {int(changed.sum())} of {array.size} values differ from the checkpoint's, by up to {largest:.1e}"


def _to_numpy(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
