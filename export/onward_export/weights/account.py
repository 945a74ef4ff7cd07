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

from onward.backends.torch_backend import torchscript_is_meant
from onward_export.weights.constant_folding import Computed, computed_alone, computed_in_advance
from onward_export.weights.layer_folding import Fold, folds_of

__all__ = ["WeightCheck", "check_onnx", "check_pt2", "check_torchscript"]


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


def check_onnx(
    path: Path, expected: Mapping[str, Tensor], program: ExportedProgram, decomposed: ExportedProgram | None = None
) -> WeightCheck:
    """Account for every floating-point initializer and constant of an ONNX file.

    Args:
        path: The file that ships.
        expected: The state_dict of the module that was exported.
        program: Its exported program, which says what batch normalisation follows what, and what normalisation goes
            before.
        decomposed: It as the exporter took it apart: an operator such as an adaptive pooling becomes several, with
            constants of their own.
    """
    known = _to_numpy(expected)
    derived = _to_numpy(computed_alone(program, expected))
    folds: list[Fold | Computed] = [*folds_of(program, derived), *computed_in_advance(program, expected)]
    arrays = [*known.values(), *derived.values()]
    if decomposed is not None:
        arrays += _to_numpy(computed_alone(decomposed, expected)).values()
    rearrangements = {_fingerprint(view) for array in arrays for view in _views(array)}
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
